//! The grammar of `--allow PERMISSION=SCOPE`: one permission with one scope a time, for a component that has no manifest.
//! Pure text to types; whether something may be granted is not decided here.

use aral_contract::document::json;
use aral_contract::scope::{
    AbsolutePath, ArgumentPattern, ExecScope, FileReadScope, FileWriteScope, MemoryReadScope, MemoryWriteScope,
    NetworkScope, ProgramScope, ReadPath, SecretReadScope, SecretScope, SecretUse, SecretWriteScope, WritePath,
};
use aral_contract::{Code, Failure, HostPattern, LimitsRequest, Permission, Permissions};

/// The grammar as `--help` prints it.
pub(crate) const GRAMMAR: &str = r#"Grammar of --allow (give it as often as needed):
  network:read=HOST              GET HEAD OPTIONS
  network:write=HOST             POST PUT PATCH DELETE
  file:read=HOSTPATH:GUESTPATH
  file:write=HOSTPATH:GUESTPATH[,bytes=N][,files=N]
  secret:read=NAME,hosts=HOST[+HOST],header=HEADER[,prefix=TEXT]
  secret:read=NAME,use=reveal    the guest may read the value
  secret:write=NAME
  memory:read=NAMESPACE
  memory:write=NAMESPACE[,bytes=N][,records=N]
  exec=PROGRAM [ARGUMENT ...]
  exec=["PROGRAM","ARGUMENT",...]

A HOST is like `https://api.example.com` or `https://*.example.org:8443`. An ARGUMENT is literal, or
one of {integer} {word} {path}. Without them: bytes=16777216, files=64, records=1000.

Examples:
  --allow network:read=https://api.example.com
  --allow file:read=/srv/data:/data
  --allow file:write=out:/out,bytes=1048576,files=10
  --allow 'secret:read=token,hosts=https://api.example.com,header=authorization,prefix=Bearer '
  --allow 'exec=/usr/bin/git log -n {integer} {word}'
  --allow 'exec=["/usr/bin/printf","%s in one"]'"#;

/// Bytes that one call may write below a folder or into a namespace, unless `bytes=` says otherwise.
pub(crate) const BYTES_MAX_DEFAULT: u64 = 16 << 20;
/// Files that one call may create below a folder, unless `files=` says otherwise.
pub(crate) const FILES_MAX_DEFAULT: u64 = 64;
/// Records in a namespace, unless `records=` says otherwise.
pub(crate) const RECORDS_MAX_DEFAULT: u64 = 1000;

/// Reads all `--allow` options into one set of permissions. `absolute` makes a host path that the user typed absolute.
pub(crate) fn permissions(
    options: &[String],
    absolute: impl Fn(&str) -> Result<String, Failure>,
) -> Result<Permissions, Failure> {
    let mut permissions = Permissions::default();
    for option in options {
        add(&mut permissions, option, &absolute).map_err(|reason| refuse("--allow", option, &reason))?;
    }
    Ok(permissions)
}

/// Reads all `--limit NAME=NUMBER` options.
pub(crate) fn limits(options: &[String]) -> Result<LimitsRequest, Failure> {
    let mut members = serde_json::Map::new();
    for option in options {
        let (name, value) = option
            .split_once('=')
            .ok_or_else(|| refuse("--limit", option, "write NAME=NUMBER"))?;
        let value = number(value).map_err(|reason| refuse("--limit", option, &reason))?;
        if members.insert(name.to_owned(), value.into()).is_some() {
            return Err(refuse("--limit", option, "it is given twice"));
        }
    }
    serde_json::from_value(members.into()).map_err(|error| {
        Failure::new(Code::ConfigInvalid, format!("`--limit` names no limit: {error}"))
            .with_hint("the names are those of `[limits]` in capability.toml, such as `--limit fuel=1000000`")
    })
}

fn refuse(option: &str, value: &str, reason: &str) -> Failure {
    Failure::new(
        Code::ConfigInvalid,
        format!("`{option} {}` is not understood: {reason}", value.escape_debug()),
    )
    .with_hint("`aral run --help` shows the grammar")
}

fn add(
    permissions: &mut Permissions,
    option: &str,
    absolute: impl Fn(&str) -> Result<String, Failure>,
) -> Result<(), String> {
    let (name, scope) = option.split_once('=').ok_or("write PERMISSION=SCOPE")?;
    let permission: Permission = name.parse().map_err(text)?;
    if scope.is_empty() {
        return Err("the scope is empty, which is no permission".to_owned());
    }
    match permission {
        Permission::NetworkRead => network(&mut permissions.network_read, scope),
        Permission::NetworkWrite => network(&mut permissions.network_write, scope),
        Permission::FileRead => {
            let (host, guest) = folders(scope, &absolute)?;
            let empty = || FileReadScope { paths: Vec::new() };
            let paths = &mut permissions.file_read.get_or_insert_with(empty).paths;
            paths.push(ReadPath { guest, host });
            Ok(())
        }
        Permission::FileWrite => {
            let mut parts = Options::split(scope)?;
            let (host, guest) = folders(parts.subject, &absolute)?;
            let bytes_max = parts.number("bytes", BYTES_MAX_DEFAULT)?;
            let files_max = parts.number("files", FILES_MAX_DEFAULT)?;
            parts.finish()?;
            let empty = || FileWriteScope { paths: Vec::new() };
            let paths = &mut permissions.file_write.get_or_insert_with(empty).paths;
            paths.push(WritePath {
                guest,
                host,
                bytes_max,
                files_max,
            });
            Ok(())
        }
        Permission::SecretRead => {
            let secret = secret(scope)?;
            let empty = || SecretReadScope { secrets: Vec::new() };
            permissions.secret_read.get_or_insert_with(empty).secrets.push(secret);
            Ok(())
        }
        Permission::SecretWrite => {
            let name = scope.parse().map_err(text)?;
            let empty = || SecretWriteScope { names: Vec::new() };
            permissions.secret_write.get_or_insert_with(empty).names.push(name);
            Ok(())
        }
        Permission::MemoryRead => {
            let namespace = scope.parse().map_err(text)?;
            let empty = || MemoryReadScope { namespaces: Vec::new() };
            permissions
                .memory_read
                .get_or_insert_with(empty)
                .namespaces
                .push(namespace);
            Ok(())
        }
        Permission::MemoryWrite => memory_write(&mut permissions.memory_write, scope),
        Permission::Exec => {
            let program = program(scope)?;
            let empty = || ExecScope { programs: Vec::new() };
            permissions.exec.get_or_insert_with(empty).programs.push(program);
            Ok(())
        }
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn number(digits: &str) -> Result<u64, String> {
    digits
        .parse()
        .map_err(|_| format!("`{}` is not a number", digits.escape_debug()))
}

fn network(scope: &mut Option<NetworkScope>, host: &str) -> Result<(), String> {
    let host: HostPattern = host.parse().map_err(text)?;
    let empty = || NetworkScope { hosts: Vec::new() };
    scope.get_or_insert_with(empty).hosts.push(host);
    Ok(())
}

/// `HOSTPATH:GUESTPATH`. The guest path is absolute, so the last `:/` is the border.
fn folders(
    scope: &str,
    absolute: impl Fn(&str) -> Result<String, Failure>,
) -> Result<(AbsolutePath, AbsolutePath), String> {
    let (host, guest) = scope
        .rsplit_once(":/")
        .ok_or("write HOSTPATH:GUESTPATH, the guest path beginning with `/`")?;
    let host = absolute(host).map_err(|failure| failure.message)?;
    let guest = format!("/{guest}").parse().map_err(text)?;
    Ok((host.parse().map_err(text)?, guest))
}

fn secret(scope: &str) -> Result<SecretScope, String> {
    let mut parts = Options::split(scope)?;
    let name = parts.subject.parse().map_err(text)?;
    let usage = match parts.take("use") {
        None | Some("inject") => SecretUse::Inject,
        Some("reveal") => SecretUse::Reveal,
        Some(other) => return Err(format!("`use` is `inject` or `reveal`, not `{}`", other.escape_debug())),
    };
    let hosts = parts
        .take("hosts")
        .map(|hosts| hosts.split('+').map(|host| host.parse().map_err(text)).collect())
        .transpose()?
        .unwrap_or_else(Vec::new);
    let header = parts.take("header").map(str::to_ascii_lowercase);
    let prefix = parts.take("prefix").map(str::to_owned);
    parts.finish()?;
    match usage {
        SecretUse::Inject if hosts.is_empty() || header.is_none() => {
            Err("a secret that is injected needs `hosts=` and `header=`".to_owned())
        }
        SecretUse::Reveal if !hosts.is_empty() || header.is_some() || prefix.is_some() => {
            Err("a secret that is revealed takes neither `hosts=` nor `header=` nor `prefix=`".to_owned())
        }
        SecretUse::Inject | SecretUse::Reveal => Ok(SecretScope {
            name,
            usage,
            hosts,
            header,
            prefix,
        }),
    }
}

/// The quota is one for all namespaces of the permission, so that a second one must not contradict the first.
fn memory_write(scope: &mut Option<MemoryWriteScope>, option: &str) -> Result<(), String> {
    let mut parts = Options::split(option)?;
    let namespace = parts.subject.parse().map_err(text)?;
    let bytes_max = parts.number("bytes", BYTES_MAX_DEFAULT)?;
    let records_max = parts.number("records", RECORDS_MAX_DEFAULT)?;
    parts.finish()?;
    let scope = scope.get_or_insert_with(|| MemoryWriteScope {
        namespaces: Vec::new(),
        bytes_max,
        records_max,
    });
    if (scope.bytes_max, scope.records_max) != (bytes_max, records_max) {
        return Err("all `memory:write` options must have the same `bytes=` and `records=`".to_owned());
    }
    scope.namespaces.push(namespace);
    Ok(())
}

fn program(scope: &str) -> Result<ProgramScope, String> {
    let words: Vec<String> = if scope.starts_with('[') {
        let value = json::parse(scope.as_bytes()).map_err(text)?;
        serde_json::from_value(value).map_err(text)?
    } else {
        scope.split_whitespace().map(str::to_owned).collect()
    };
    let mut words = words.into_iter();
    let path = words.next().ok_or("the program is missing")?.parse().map_err(text)?;
    let args = words
        .map(|word| ArgumentPattern::try_from(word).map_err(text))
        .collect::<Result<_, _>>()?;
    Ok(ProgramScope { path, args })
}

/// `SUBJECT,NAME=VALUE,…`, each name at most once and each one used.
struct Options<'text> {
    subject: &'text str,
    pairs: Vec<(&'text str, &'text str)>,
}

impl<'text> Options<'text> {
    fn split(scope: &'text str) -> Result<Self, String> {
        let mut parts = scope.split(',');
        let subject = parts.next().unwrap_or_default();
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for part in parts {
            let (name, value) = part
                .split_once('=')
                .ok_or_else(|| format!("`{}` is not NAME=VALUE", part.escape_debug()))?;
            if pairs.iter().any(|(other, _)| *other == name) {
                return Err(format!("`{}` is given twice", name.escape_debug()));
            }
            pairs.push((name, value));
        }
        Ok(Self { subject, pairs })
    }

    fn take(&mut self, name: &str) -> Option<&'text str> {
        let at = self.pairs.iter().position(|(other, _)| *other == name)?;
        Some(self.pairs.swap_remove(at).1)
    }

    fn number(&mut self, name: &str, default: u64) -> Result<u64, String> {
        self.take(name).map_or(Ok(default), number)
    }

    fn finish(self) -> Result<(), String> {
        match self.pairs.first() {
            None => Ok(()),
            Some((name, _)) => Err(format!("`{}` is not known here", name.escape_debug())),
        }
    }
}

#[cfg(test)]
mod tests;
