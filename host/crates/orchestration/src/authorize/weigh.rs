//! Weighs one permission after the other: each item of a scope goes first through the persona, then through the policy,
//! and every loss is written down with the line that would have prevented it.

use aral_capability::manifest::Entry;
use aral_contract::scope::{
    ExecScope, FileReadScope, FileWriteScope, MemoryReadScope, MemoryWriteScope, NetworkScope, SecretReadScope,
    SecretUse, SecretWriteScope,
};
use aral_contract::{HostPattern, Permission, Permissions};
use aral_persona::PersonaBody;

use super::ask;
use super::lines::{self, Lines};
use super::narrow;
use super::row::{Answer, Row, Subject, Verdict};
use crate::policy::Policy;

/// Whether the loss of one item is a loss of all.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Any,
    All,
}

/// The weighing of one entry.
pub(super) struct Weighing<'a> {
    entry: &'a Entry,
    persona: &'a PersonaBody,
    policy: &'a Policy,
    pub(super) rows: Vec<Row>,
    pub(super) granted: Permissions,
    pub(super) warnings: Vec<String>,
}

impl<'a> Weighing<'a> {
    pub(super) fn new(entry: &'a Entry, persona: &'a PersonaBody, policy: &'a Policy) -> Self {
        let by_persona = persona.constraints.wildcards().into_iter();
        let by_policy = policy.wildcards().into_iter();
        let warnings = by_persona
            .map(|key| format!("persona `{}`: `*` in {key} allows everything", persona.id))
            .chain(by_policy.map(|key| format!("policy: {key} allows everything")))
            .collect();
        Self {
            entry,
            persona,
            policy,
            rows: Vec::new(),
            granted: Permissions::default(),
            warnings,
        }
    }

    /// Whether the capability may run at all.
    pub(super) fn capability(&mut self) {
        let (id, version) = (&self.entry.id, &self.entry.version);
        let by_persona = self.persona.constraints.allows_capability(id, version);
        let by_policy = self.policy.allows_capability(id, version);
        let answer = |yes: bool, place: &'static str| {
            let mut lines = Lines::default();
            if !yes {
                lines.add_text(place, id.as_str());
            }
            Answer {
                verdict: if yes { Verdict::Yes } else { Verdict::No },
                lines: lines.into_lines(),
            }
        };
        let text = format!("{id} {version}");
        self.rows.push(Row {
            subject: Subject::Capability,
            asked: vec![text.clone()],
            persona: answer(by_persona, lines::PERSONA_CAPABILITIES),
            policy: answer(by_policy, lines::POLICY_CAPABILITIES),
            granted: if by_persona && by_policy {
                vec![text]
            } else {
                Vec::new()
            },
        });
    }

    /// One permission that the manifest asks for.
    pub(super) fn permission(&mut self, permission: Permission) {
        let asked = self.entry.permissions.clone();
        match permission {
            Permission::NetworkRead => {
                self.granted.network_read = asked.network_read.and_then(|scope| self.network(permission, scope));
            }
            Permission::NetworkWrite => {
                self.granted.network_write = asked.network_write.and_then(|scope| self.network(permission, scope));
            }
            Permission::FileRead => self.granted.file_read = asked.file_read.and_then(|scope| self.file_read(scope)),
            Permission::FileWrite => {
                self.granted.file_write = asked.file_write.and_then(|scope| self.file_write(scope))
            }
            Permission::SecretRead => {
                self.granted.secret_read = asked.secret_read.and_then(|scope| self.secret_read(scope))
            }
            Permission::SecretWrite => {
                self.granted.secret_write = asked.secret_write.and_then(|scope| self.secret_write(scope));
            }
            Permission::MemoryRead => {
                self.granted.memory_read = asked.memory_read.and_then(|scope| self.memory_read(scope))
            }
            Permission::MemoryWrite => {
                self.granted.memory_write = asked.memory_write.and_then(|scope| self.memory_write(scope));
            }
            Permission::Exec => self.granted.exec = asked.exec.and_then(|scope| self.exec(scope)),
        }
    }

    fn network(&mut self, permission: Permission, scope: NetworkScope) -> Option<NetworkScope> {
        let (domains, hosts) = (&self.persona.constraints.allowed_domains, &self.policy.hosts);
        let weighed = self.weigh(
            permission,
            Need::Any,
            &scope.hosts,
            |host, lines| ask::by_hosts(host, domains, lines::PERSONA_DOMAINS, lines),
            |host, lines| ask::by_hosts(host, hosts, lines::POLICY_HOSTS, lines),
            HostPattern::to_string,
        )?;
        Some(NetworkScope { hosts: weighed })
    }

    fn file_read(&mut self, scope: FileReadScope) -> Option<FileReadScope> {
        let roots = &self.policy.read_roots;
        let weighed = self.weigh(
            Permission::FileRead,
            Need::All,
            &scope.paths,
            |path, _| vec![path.clone()],
            |path, lines| {
                let given = narrow::read_path(path, roots);
                ask::note_root(given.is_empty(), lines::POLICY_READ_ROOTS, &path.host, lines);
                given
            },
            |path| format!("{} = {}", path.guest, path.host),
        )?;
        Some(FileReadScope { paths: weighed })
    }

    fn file_write(&mut self, scope: FileWriteScope) -> Option<FileWriteScope> {
        let policy = self.policy;
        let weighed = self.weigh(
            Permission::FileWrite,
            Need::All,
            &scope.paths,
            |path, _| vec![path.clone()],
            |path, lines| {
                let outside = !policy.write_roots.iter().any(|root| path.host.is_within(root));
                ask::note_root(outside, lines::POLICY_WRITE_ROOTS, &path.host, lines);
                ask::note_number(path.bytes_max, policy.file_bytes_max, lines::POLICY_FILE_BYTES, lines);
                ask::note_number(path.files_max, policy.file_count_max, lines::POLICY_FILE_COUNT, lines);
                narrow::write_path(path, &policy.write_roots, policy.file_bytes_max, policy.file_count_max)
            },
            |path| {
                format!(
                    "{} = {} (up to {} bytes, {} files)",
                    path.guest, path.host, path.bytes_max, path.files_max
                )
            },
        )?;
        Some(FileWriteScope { paths: weighed })
    }

    fn secret_read(&mut self, scope: SecretReadScope) -> Option<SecretReadScope> {
        let (domains, policy) = (&self.persona.constraints.allowed_domains, self.policy);
        let weighed = self.weigh(
            Permission::SecretRead,
            Need::Any,
            &scope.secrets,
            |secret, lines| ask::secret_by_hosts(secret, domains, lines::PERSONA_DOMAINS, lines),
            |secret, lines| ask::secret_by_policy(secret, policy, lines),
            |secret| match secret.usage {
                SecretUse::Inject => {
                    let hosts: Vec<String> = secret.hosts.iter().map(HostPattern::to_string).collect();
                    format!("{} injected for {}", secret.name, hosts.join(", "))
                }
                SecretUse::Reveal => format!("{} revealed", secret.name),
            },
        )?;
        let shown = weighed.iter().filter(|secret| secret.usage == SecretUse::Reveal);
        self.warnings.extend(shown.map(|secret| {
            format!(
                "secret `{}` is revealed: the capability sees its value, and can pass it on wherever it may write or send",
                secret.name
            )
        }));
        Some(SecretReadScope { secrets: weighed })
    }

    fn secret_write(&mut self, scope: SecretWriteScope) -> Option<SecretWriteScope> {
        let allowed = &self.policy.secrets;
        let weighed = self.weigh(
            Permission::SecretWrite,
            Need::Any,
            &scope.names,
            |name, _| vec![name.clone()],
            |name, lines| {
                ask::by_name(
                    name,
                    allowed.allows(|one| one == name),
                    lines::POLICY_SECRETS,
                    name.as_str(),
                    lines,
                )
            },
            |name| name.to_string(),
        )?;
        Some(SecretWriteScope { names: weighed })
    }

    fn memory_read(&mut self, scope: MemoryReadScope) -> Option<MemoryReadScope> {
        let namespaces = self.namespaces(Permission::MemoryRead, &scope.namespaces)?;
        Some(MemoryReadScope { namespaces })
    }

    fn memory_write(&mut self, scope: MemoryWriteScope) -> Option<MemoryWriteScope> {
        let (bytes_max, records_max) = (self.policy.memory_bytes_max, self.policy.memory_records_max);
        let mut lines = Lines::default();
        ask::note_number(scope.bytes_max, bytes_max, lines::POLICY_MEMORY_BYTES, &mut lines);
        ask::note_number(scope.records_max, records_max, lines::POLICY_MEMORY_RECORDS, &mut lines);
        let lines = lines.into_lines();
        let namespaces = self.namespaces(Permission::MemoryWrite, &scope.namespaces);
        let narrowed = MemoryWriteScope {
            namespaces: namespaces.unwrap_or_default(),
            bytes_max: scope.bytes_max.min(bytes_max),
            records_max: scope.records_max.min(records_max),
        };
        let anything = narrowed.bytes_max > 0 && narrowed.records_max > 0;
        if let Some(row) = self.rows.last_mut()
            && !lines.is_empty()
        {
            row.policy.verdict = match row.policy.verdict {
                Verdict::No => Verdict::No,
                Verdict::Yes | Verdict::Part if anything => Verdict::Part,
                Verdict::Yes | Verdict::Part => Verdict::No,
            };
            row.policy.lines.extend(lines);
            if !anything {
                row.granted.clear();
            }
        }
        (anything && !narrowed.namespaces.is_empty()).then_some(narrowed)
    }

    fn namespaces(
        &mut self,
        permission: Permission,
        asked: &[aral_contract::id::Namespace],
    ) -> Option<Vec<aral_contract::id::Namespace>> {
        let allowed = &self.policy.namespaces;
        self.weigh(
            permission,
            Need::Any,
            asked,
            |name, _| vec![name.clone()],
            |name, lines| {
                ask::by_name(
                    name,
                    allowed.allows(|one| one == name),
                    lines::POLICY_NAMESPACES,
                    name.as_str(),
                    lines,
                )
            },
            |name| name.to_string(),
        )
    }

    fn exec(&mut self, scope: ExecScope) -> Option<ExecScope> {
        let allowed = &self.policy.programs;
        let weighed = self.weigh(
            Permission::Exec,
            Need::Any,
            &scope.programs,
            |program, _| vec![program.clone()],
            |program, lines| {
                let given = narrow::program(program, allowed);
                if given != [program.clone()] {
                    lines.add(lines::POLICY_PROGRAMS, ask::program_value(program));
                }
                given
            },
            ask::program_text,
        )?;
        Some(ExecScope { programs: weighed })
    }

    /// Sends every item through both, adds the row, and returns what is left; none if that is a denial.
    fn weigh<T: Clone + PartialEq>(
        &mut self,
        permission: Permission,
        need: Need,
        asked: &[T],
        by_persona: impl Fn(&T, &mut Lines) -> Vec<T>,
        by_policy: impl Fn(&T, &mut Lines) -> Vec<T>,
        text: impl Fn(&T) -> String,
    ) -> Option<Vec<T>> {
        let persona_gives = self.persona.constraints.allows_permission(permission);
        let policy_gives = self.policy.allows_permission(permission);
        let persona = answer(
            permission,
            need,
            asked,
            persona_gives,
            lines::PERSONA_PERMISSIONS,
            &by_persona,
        );
        let policy = answer(
            permission,
            need,
            asked,
            policy_gives,
            lines::POLICY_PERMISSIONS,
            &by_policy,
        );
        let refused = persona.verdict == Verdict::No || policy.verdict == Verdict::No;
        let left = if refused {
            Vec::new()
        } else {
            narrowed_by_both(need, asked, &by_persona, &by_policy)
        };
        let texts = |items: &[T]| items.iter().map(&text).collect::<Vec<_>>();
        self.rows.push(Row {
            subject: Subject::Permission(permission),
            asked: texts(asked),
            granted: texts(&left),
            persona,
            policy,
        });
        (!left.is_empty()).then_some(left)
    }
}

/// What is left of every item after both; nothing if an item that is needed is lost.
fn narrowed_by_both<T: PartialEq>(
    need: Need,
    asked: &[T],
    by_persona: &impl Fn(&T, &mut Lines) -> Vec<T>,
    by_policy: &impl Fn(&T, &mut Lines) -> Vec<T>,
) -> Vec<T> {
    let mut ignored = Lines::default();
    let mut left: Vec<T> = Vec::new();
    for item in asked {
        let by_persona = by_persona(item, &mut ignored);
        let narrowed: Vec<T> = by_persona
            .iter()
            .flat_map(|one| by_policy(one, &mut Lines::default()))
            .collect();
        if narrowed.is_empty() && need == Need::All {
            return Vec::new();
        }
        for item in narrowed {
            if !left.contains(&item) {
                left.push(item);
            }
        }
    }
    left
}

fn answer<T: Clone + PartialEq>(
    permission: Permission,
    need: Need,
    asked: &[T],
    gives: bool,
    place: &'static str,
    narrow: &impl Fn(&T, &mut Lines) -> Vec<T>,
) -> Answer {
    let mut lines = Lines::default();
    if !gives {
        lines.add_text(place, permission.as_str());
    }
    let given: Vec<Vec<T>> = asked.iter().map(|item| narrow(item, &mut lines)).collect();
    let nothing = given.iter().all(Vec::is_empty);
    let too_little = need == Need::All && given.iter().any(Vec::is_empty);
    let all = asked.iter().zip(&given).all(|(item, given)| *given == [item.clone()]);
    let verdict = if !gives || nothing || too_little {
        Verdict::No
    } else if all {
        Verdict::Yes
    } else {
        Verdict::Part
    };
    Answer {
        verdict,
        lines: lines.into_lines(),
    }
}
