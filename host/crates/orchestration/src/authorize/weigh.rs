//! Weighs one permission after the other: each item of a scope goes first through the persona, then through the policy,
//! and every loss is written down with the line that would have prevented it.

use std::hash::Hash;
use std::rc::Rc;

use aral_capability::manifest::Entry;
use aral_contract::id::{Namespace, SecretName};
use aral_contract::scope::{
    ExecScope, FileReadScope, FileWriteScope, MemoryReadScope, MemoryWriteScope, NetworkScope, ReadPath,
    SecretReadScope, SecretUse, SecretWriteScope, WritePath,
};
use aral_contract::{Classification, Cut, HostPattern, Permission, Permissions};
use aral_persona::PersonaBody;

use super::ask;
use super::cut;
use super::lines::{self, Lines};
use super::narrow::{self, Reach, Share};
use super::row::{Answer, Row, Subject, Verdict};
use crate::policy::Policy;

/// Whether the loss of one item is a loss of all.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Any,
    All,
}

impl Need {
    /// A capability that does not find one of its folders would take another one for it, or none.
    const fn of(permission: Permission) -> Self {
        match permission {
            Permission::FileRead | Permission::FileWrite => Self::All,
            Permission::NetworkRead
            | Permission::NetworkWrite
            | Permission::SecretRead
            | Permission::SecretWrite
            | Permission::MemoryRead
            | Permission::MemoryWrite
            | Permission::Exec => Self::Any,
        }
    }
}

/// The weighing of one entry.
pub(super) struct Weighing<'a> {
    entry: &'a Entry,
    persona: &'a PersonaBody,
    policy: &'a Policy,
    /// None: nothing asked for it yet.
    reach: Option<Rc<Reach<'a>>>,
    pub(super) rows: Vec<Row>,
    pub(super) granted: Permissions,
    pub(super) cut: Cut,
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
            reach: None,
            rows: Vec::new(),
            granted: Permissions::default(),
            cut: Cut::default(),
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
        // A row in words is never a yes to what is not there in fact.
        if !self.granted.has(permission)
            && let Some(row) = self.rows.last_mut()
        {
            row.granted.clear();
        }
    }

    fn network(&mut self, permission: Permission, scope: NetworkScope) -> Option<NetworkScope> {
        let reach = self.reach();
        let weighed = self.weigh(
            permission,
            &scope.hosts,
            |host, lines| ask::by_hosts(host, &reach.persona, lines::PERSONA_DOMAINS, lines),
            |host, lines| ask::by_hosts(host, &reach.policy, lines::POLICY_HOSTS, lines),
            |hosts| reach.both.narrow(hosts).into_iter().cloned().collect(),
            HostPattern::to_string,
        )?;
        Some(NetworkScope { hosts: weighed })
    }

    /// Worked out once for all permissions that name hosts.
    fn reach(&mut self) -> Rc<Reach<'a>> {
        let (domains, policy) = (&self.persona.constraints.allowed_domains, self.policy);
        let reach = self.reach.get_or_insert_with(|| Rc::new(Reach::new(domains, policy)));
        Rc::clone(reach)
    }

    fn file_read(&mut self, scope: FileReadScope) -> Option<FileReadScope> {
        let policy = self.policy;
        let narrowed = |path: &ReadPath| narrow::read_path(path, &policy.read_roots);
        let weighed = self.weigh(
            Permission::FileRead,
            &scope.paths,
            |_, _| Share::Whole,
            |path, lines| {
                let share = Share::of(path, &narrowed(path));
                ask::note_root(share == Share::Nothing, lines::POLICY_READ_ROOTS, &path.host, lines);
                share
            },
            |paths| paths.iter().flat_map(narrowed).collect(),
            |path| format!("{} = {}", path.guest, path.host),
        )?;
        Some(FileReadScope { paths: weighed })
    }

    fn file_write(&mut self, scope: FileWriteScope) -> Option<FileWriteScope> {
        let policy = self.policy;
        let (bytes_max, files_max) = (policy.file_bytes_max, policy.file_count_max);
        let narrowed = |path: &WritePath| narrow::write_path(path, &policy.write_roots, bytes_max, files_max);
        let weighed = self.weigh(
            Permission::FileWrite,
            &scope.paths,
            |_, _| Share::Whole,
            |path, lines| {
                let outside = !policy.write_roots.iter().any(|root| path.host.is_within(root));
                ask::note_root(outside, lines::POLICY_WRITE_ROOTS, &path.host, lines);
                ask::note_number(path.bytes_max, bytes_max, lines::POLICY_FILE_BYTES, lines);
                ask::note_number(path.files_max, files_max, lines::POLICY_FILE_COUNT, lines);
                Share::of(path, &narrowed(path))
            },
            |paths| paths.iter().flat_map(narrowed).collect(),
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
        let (reach, policy) = (self.reach(), self.policy);
        let weighed = self.weigh(
            Permission::SecretRead,
            &scope.secrets,
            |secret, lines| ask::secret_by_persona(secret, &reach.persona, lines),
            |secret, lines| ask::secret_by_policy(secret, policy, &reach.policy, lines),
            |secrets| {
                let left = |secret| ask::secret_left(secret, policy, &reach.both);
                secrets.iter().filter_map(left).collect()
            },
            ask::secret_text,
        )?;
        let (by_persona, by_policy) = (&mut self.cut.persona, &mut self.cut.policy);
        cut::keep_hosts(&mut by_persona.secret_read, |host| {
            reach.persona.share(host) == Share::Whole
        });
        cut::keep_hosts(&mut by_policy.secret_read, |host| {
            ask::may_travel(host, policy) && reach.policy.share(host) == Share::Whole
        });
        // Whoever is not cleared for secrets sees none, of which `unmet` warns.
        let is_cleared = self.persona.clearance >= Classification::Secret;
        let shown = weighed
            .iter()
            .filter(|secret| is_cleared && secret.usage == SecretUse::Reveal);
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
        let named = |name: &SecretName| allowed.allows(|one| one == name);
        let names = self.names(
            Permission::SecretWrite,
            &scope.names,
            named,
            lines::POLICY_SECRETS,
            SecretName::as_str,
        )?;
        Some(SecretWriteScope { names })
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
        if let Some(row) = self.rows.last_mut() {
            let note = |texts: &mut Vec<String>, bytes: u64, records: u64| {
                let quota = format!(" (up to {bytes} bytes, {records} records in it)");
                texts.iter_mut().for_each(|text| text.push_str(&quota));
            };
            note(&mut row.asked, scope.bytes_max, scope.records_max);
            note(&mut row.granted, narrowed.bytes_max, narrowed.records_max);
            row.policy.verdict = match row.policy.verdict {
                Verdict::No => Verdict::No,
                Verdict::Yes | Verdict::Part if !anything => Verdict::No,
                Verdict::Yes if lines.is_empty() => Verdict::Yes,
                Verdict::Yes | Verdict::Part => Verdict::Part,
            };
            row.policy.lines.extend(lines);
        }
        (anything && !narrowed.namespaces.is_empty()).then_some(narrowed)
    }

    fn namespaces(&mut self, permission: Permission, asked: &[Namespace]) -> Option<Vec<Namespace>> {
        let allowed = &self.policy.namespaces;
        let named = |name: &Namespace| allowed.allows(|one| one == name);
        self.names(permission, asked, named, lines::POLICY_NAMESPACES, Namespace::as_str)
    }

    /// Names, about which a persona says nothing.
    fn names<T: Clone + Eq + Hash>(
        &mut self,
        permission: Permission,
        asked: &[T],
        named: impl Fn(&T) -> bool,
        place: &'static str,
        text: impl Fn(&T) -> &str,
    ) -> Option<Vec<T>> {
        self.weigh(
            permission,
            asked,
            |_, _| Share::Whole,
            |name, lines| ask::by_name(named(name), place, text(name), lines),
            |names| names.iter().filter(|name| named(name)).cloned().collect(),
            |name| text(name).to_owned(),
        )
    }

    fn exec(&mut self, scope: ExecScope) -> Option<ExecScope> {
        let allowed = &self.policy.programs;
        let weighed = self.weigh(
            Permission::Exec,
            &scope.programs,
            |_, _| Share::Whole,
            |program, lines| {
                let share = Share::of(program, &narrow::program(program, allowed));
                if share != Share::Whole {
                    lines.add(lines::POLICY_PROGRAMS, ask::program_value(program));
                }
                share
            },
            |programs| narrow::programs(programs, allowed),
            ask::program_value,
        )?;
        Some(ExecScope { programs: weighed })
    }

    /// Asks both about every item, adds the row, and returns what is `left` of them if neither refuses, each once; none if that is a
    /// denial.
    fn weigh<T: Eq + Hash>(
        &mut self,
        permission: Permission,
        asked: &[T],
        by_persona: impl Fn(&T, &mut Lines) -> Share,
        by_policy: impl Fn(&T, &mut Lines) -> Share,
        left: impl FnOnce(&[T]) -> Vec<T>,
        text: impl Fn(&T) -> String,
    ) -> Option<Vec<T>> {
        let constraints = &self.persona.constraints;
        let (persona, by_persona) = answer(
            permission,
            asked,
            constraints.allows_permission(permission),
            lines::PERSONA_PERMISSIONS,
            by_persona,
        );
        let (policy, by_policy) = answer(
            permission,
            asked,
            self.policy.allows_permission(permission),
            lines::POLICY_PERMISSIONS,
            by_policy,
        );
        cut::note(&self.entry.permissions, permission, &by_persona, &mut self.cut.persona);
        cut::note(&self.entry.permissions, permission, &by_policy, &mut self.cut.policy);
        let refused = persona.verdict == Verdict::No || policy.verdict == Verdict::No;
        let left = if refused { Vec::new() } else { narrow::once(left(asked)) };
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

fn answer<T>(
    permission: Permission,
    asked: &[T],
    gives: bool,
    place: &'static str,
    share: impl Fn(&T, &mut Lines) -> Share,
) -> (Answer, Vec<Share>) {
    let mut lines = Lines::default();
    if !gives {
        lines.add_text(place, permission.as_str());
    }
    let shares: Vec<Share> = asked.iter().map(|item| share(item, &mut lines)).collect();
    let too_little = Need::of(permission) == Need::All && shares.contains(&Share::Nothing);
    let verdict = match Share::of_all(&shares) {
        _ if !gives || too_little => Verdict::No,
        Share::Nothing => Verdict::No,
        Share::Whole => Verdict::Yes,
        Share::Part => Verdict::Part,
    };
    let lines = lines.into_lines();
    (Answer { verdict, lines }, shares)
}
