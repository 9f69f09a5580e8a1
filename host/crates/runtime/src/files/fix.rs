//! What makes a file or folder one that can be used. It changes nothing.

use std::path::Path;

use rustix::io::Errno;

use super::FilesError;

impl FilesError {
    /// The step that makes it a file that can be used; none: no single one does.
    pub fn fix(&self) -> Option<String> {
        match self {
            Self::Mode { path, wanted, .. } => Some(format!("chmod {wanted} {}", path.display())),
            // Most likely it is that of a server with a user of its own, which root's `chown` would keep from starting.
            Self::Owner { owner, user: 0, .. } => Some(format!(
                "run this as that user: `sudo -u '#{owner}' aral …`; only where root itself runs the server, give the file to root"
            )),
            Self::Owner { path, .. } => Some(format!("chown \"$(id -u)\" {}", path.display())),
            Self::Changed { .. } => Some("see what it holds now, and run this again".to_owned()),
            Self::Foreign { .. } => Some("sign a copy, and have root put it there: `install -o USER`".to_owned()),
            Self::Io { action, path, .. } if self.is_denied() => Some(denied(action, path)),
            Self::Io { .. } | Self::TooLarge { .. } | Self::NotAFile { .. } | Self::Exists { .. } => None,
        }
    }
}

/// The step where the system does not let this user do this with that path.
fn denied(action: &str, path: &Path) -> String {
    let found = rustix::fs::stat(path).map(|found| (found.st_uid, found.st_mode));
    words(action, path, super::user(), found)
}

/// `found` is the owner and the mode, or why they are not known. Where a folder on the way is closed to this user, one that root makes
/// behind it changes nothing.
fn words(action: &str, path: &Path, user: u32, found: Result<(u32, u32), Errno>) -> String {
    let shown = path.display();
    match found {
        Err(Errno::NOENT) if action == "make" => {
            format!("this is user {user}: have root make the folder for it, `install -d -m 700 -o {user} {shown}`")
        }
        Ok((0, mode)) if mode & 0o077 == 0 => {
            format!(
                "it is for root alone, and this is user {user}: have root give it to that user, `chown {user} {shown}`"
            )
        }
        Ok((owner, mode)) if owner != user && mode & 0o077 == 0 => {
            format!(
                "it is for user {owner} alone, and this is user {user}: run this as that user, `sudo -u '#{owner}' aral …`"
            )
        }
        Ok(_) | Err(_) => format!("this is user {user}: `namei -l {shown}` shows who may"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_may_not_is_told_who_may() {
        let path = Path::new("/etc/aral/master.key");
        for (action, found, step) in [
            ("open", Ok((0, 0o100_600)), "`chown 7 /etc/aral/master.key`"),
            ("open", Ok((9, 0o100_600)), "`sudo -u '#9' aral …`"),
            ("open", Ok((0, 0o040_700)), "`chown 7 /etc/aral/master.key`"),
            (
                "make",
                Err(Errno::NOENT),
                "`install -d -m 700 -o 7 /etc/aral/master.key`",
            ),
            // A folder on the way is closed.
            ("make", Err(Errno::ACCESS), "`namei -l /etc/aral/master.key`"),
            // Others need what root lets them read, or what is their own is closed to them.
            ("open", Ok((0, 0o100_640)), "`namei -l /etc/aral/master.key`"),
            ("open", Ok((7, 0o040_000)), "`namei -l /etc/aral/master.key`"),
            ("open", Err(Errno::NOENT), "`namei -l /etc/aral/master.key`"),
        ] {
            let words = words(action, path, 7, found);
            assert!(words.contains(step) && words.contains("this is user 7"), "{words}");
        }
    }
}
