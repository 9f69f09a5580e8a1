//! Reads the text format of Prometheus, as far as `GET /metrics` writes it: one sample a line, name, labels and number.

use std::collections::BTreeMap;

/// One number.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample {
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) value: f64,
}

impl Sample {
    pub(super) fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// All numbers of one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Samples(Vec<Sample>);

impl Samples {
    /// What is no sample is left out: comments, blank lines, and what this program does not write.
    pub(super) fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(sample).collect())
    }

    /// All series of a metric.
    pub(super) fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.0.iter().filter(move |sample| sample.name == name)
    }

    /// All series of a metric together.
    pub(super) fn sum(&self, name: &str) -> f64 {
        self.of(name).map(|sample| sample.value).sum()
    }

    /// The number of one series; 0: there is none.
    pub(super) fn value(&self, name: &str, labels: &BTreeMap<String, String>) -> f64 {
        let found = self.of(name).find(|sample| sample.labels == *labels);
        found.map_or(0.0, |sample| sample.value)
    }
}

fn sample(line: &str) -> Option<Sample> {
    if line.starts_with('#') {
        return None;
    }
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        Some((name, rest)) => (name, labels(rest)?),
        None => (series, BTreeMap::new()),
    };
    Some(Sample {
        name: name.to_owned(),
        labels,
        value: value.parse().ok()?,
    })
}

/// What stands between the braces, and the second of them.
fn labels(text: &str) -> Option<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    while rest != "}" {
        let (name, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut letters = after.chars();
        loop {
            match letters.next()? {
                '"' => break,
                '\\' => value.push(match letters.next()? {
                    'n' => '\n',
                    other => other,
                }),
                other => value.push(other),
            }
        }
        labels.insert(name.trim_start_matches(',').to_owned(), value);
        rest = letters.as_str();
    }
    Some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_and_anything_else_is_left_out() {
        let text = "# HELP a b\n# TYPE a counter\na 1\na{x=\"1\",y=\"q\\\"\\\\\\n}\"} 2.5\n\nb{le=\"+Inf\"} 3\nc{x=\"1\" 4\nd{x=1} 5\ne five\n";
        let samples = Samples::parse(text);
        assert_eq!(samples.0.len(), 3, "{samples:?}");
        assert_eq!(samples.sum("a"), 3.5);
        let labelled = samples.of("a").nth(1).unwrap();
        assert_eq!(
            (labelled.label("x"), labelled.label("y"), labelled.label("z")),
            ("1", "q\"\\\n}", "")
        );
        assert_eq!(samples.value("a", &labelled.labels), 2.5);
        assert_eq!(
            samples.value("a", &BTreeMap::from([("x".to_owned(), "2".to_owned())])),
            0.0
        );
        assert_eq!(samples.of("b").next().unwrap().label("le"), "+Inf");
    }
}
