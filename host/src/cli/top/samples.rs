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

    /// What names it.
    fn series(&self) -> (&str, &BTreeMap<String, String>) {
        #[cfg(test)]
        tests::look();
        (&self.name, &self.labels)
    }
}

/// All numbers of one moment, in the order of their series: there may be thousands, each of which is looked for among others.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Samples(Vec<Sample>);

impl Samples {
    /// What is no sample is left out: comments, blank lines, and what this program does not write.
    pub(super) fn parse(text: &str) -> Self {
        let mut all: Vec<Sample> = text.lines().filter_map(sample).collect();
        all.sort_by(|one, other| one.series().cmp(&other.series()));
        Self(all)
    }

    /// All series of a metric.
    pub(super) fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        let first = self.0.partition_point(|sample| sample.series().0 < name);
        let rest = self.0.get(first..).unwrap_or_default();
        rest.iter().take_while(move |sample| sample.series().0 == name)
    }

    /// All series of a metric together.
    pub(super) fn sum(&self, name: &str) -> f64 {
        self.of(name).map(|sample| sample.value).sum()
    }

    /// The number of one series; 0: there is none.
    pub(super) fn value(&self, name: &str, labels: &BTreeMap<String, String>) -> f64 {
        let found = self.0.binary_search_by(|sample| sample.series().cmp(&(name, labels)));
        let sample = found.ok().and_then(|index| self.0.get(index));
        sample.map_or(0.0, |sample| sample.value)
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
pub(super) mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static LOOKS: Cell<usize> = const { Cell::new(0) };
    }

    pub(super) fn look() {
        LOOKS.set(LOOKS.get() + 1);
    }

    /// How often this looks at a sample.
    pub(in crate::cli::top) fn looks(act: impl FnOnce()) -> usize {
        let before = LOOKS.get();
        act();
        LOOKS.get() - before
    }

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
