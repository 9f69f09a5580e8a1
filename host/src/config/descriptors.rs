//! Whether the process may have as many descriptors as the connections of a server take. With fewer it starts and works; the last
//! connections are not taken, and calls that open something fail while those are there.

use aral_capability::Warning;

use super::Config;

/// Up to so many descriptors the folders of guests are more than one in sixteen: half of all is left for connections, not two thirds.
const SMALL: u64 = 3072;

impl Config {
    /// What to tell where the process, which may have `open_max` descriptors now, has too few for all connections of callers and of
    /// guests, beside the files of guests. None in `open_max`: it may have any number.
    pub fn descriptors_lacking(&self, open_max: Option<u64>) -> Option<Warning> {
        let (serve, open_max) = (self.serve.as_ref()?, open_max?);
        let callers = serve.bounds.connections_max;
        let guests = u64::try_from(self.egress.connections_max).unwrap_or(u64::MAX);
        let more_than = needed(callers.saturating_add(guests));
        let wanted = more_than.saturating_add(1);
        (open_max < wanted).then(|| Warning {
            message: format!(
                "the process may have {open_max} descriptors, and `connections_max` of [serve.limits] ({callers}) and of [egress] \
                 ({guests}) take more than {more_than}, files of guests included: some connections are not taken, and meanwhile \
                 calls may fail"
            ),
            hint: match self.process.open_files_max < wanted {
                true => format!("aral.toml, [process]: open_files_max = {wanted}"),
                false => format!(
                    "let the process have {wanted} when it starts (systemd: `LimitNOFILE={wanted}`; a shell: `ulimit -Hn {wanted}`), or \
                     lower connections_max of [serve.limits] in aral.toml"
                ),
            },
        })
    }
}

/// How many descriptors are not enough for so many connections.
fn needed(connections: u64) -> u64 {
    match connections.saturating_add(connections / 2) {
        most if most < SMALL => connections.saturating_mul(2),
        most => most,
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::load;

    /// What is told of such limits, where the process may have so many descriptors.
    fn told(limits: &str, open_max: u64) -> Option<String> {
        let text = format!("[[serve.listener]]\naddress = \"127.0.0.1:0\"\n{limits}");
        let lacking = load(&text).descriptors_lacking(Some(open_max))?;
        Some(format!("{}\n{}", lacking.message, lacking.hint))
    }

    #[test]
    fn too_few_descriptors_for_all_connections_are_told_with_the_line_that_gives_more() {
        assert_eq!(told("", 16_384), None, "the defaults go together");
        let few = told("", 15_384).unwrap();
        assert!(
            few.contains("may have 15384") && few.contains("more than 15384"),
            "{few}"
        );
        assert!(few.contains("LimitNOFILE=15385"), "the file asks for enough: {few}");

        let many = "[serve.limits]\nconnections_max = 20000\nconnections_per_address_max = 1\n";
        let few = told(many, 16_384).unwrap();
        assert!(few.ends_with("aral.toml, [process]: open_files_max = 30385"), "{few}");
        assert_eq!(
            told(&format!("{many}[process]\nopen_files_max = 30385\n"), 30_385),
            None
        );

        let guests = "[serve.limits]\nconnections_max = 500\n[egress]\nconnections_max = 500\n";
        assert!(
            told(guests, 2000).unwrap().contains("more than 2000"),
            "a small process"
        );
        assert_eq!(told(guests, 2001), None);
    }

    #[test]
    fn where_nothing_is_served_or_any_number_may_be_open_there_is_nothing_to_tell() {
        assert!(load("").descriptors_lacking(Some(64)).is_none());
        let served = load("[[serve.listener]]\naddress = \"127.0.0.1:0\"\n");
        assert!(served.descriptors_lacking(None).is_none());
        assert!(served.descriptors_lacking(Some(64)).is_some());
    }
}
