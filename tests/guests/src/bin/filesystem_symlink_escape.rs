//! Tries to leave the granted folder through links: those that lie there, and those it makes itself.

use std::fs;
use std::io;

use aral_test_guests::{attempt, run};
use serde_json::{Value, json};

/// Stable std has no way to make a link here, so the ABI is used as it is.
fn make_link(base: &str, name: &str, target: &str) -> io::Result<()> {
    unsafe extern "C" {
        fn symlink(target: *const core::ffi::c_char, link: *const core::ffi::c_char) -> i32;
    }
    let target = std::ffi::CString::new(target)?;
    let link = std::ffi::CString::new(format!("{base}/{name}"))?;
    // SAFETY: both are texts that end in NUL and outlive the call.
    match unsafe { symlink(target.as_ptr(), link.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn main() {
    run(|input| {
        let base = input["base"].as_str().expect("a granted folder");
        let secret = input["secret"].as_str().expect("the absolute path of a file outside");
        let text = |name: &str| format!("{base}/{name}");
        let mut attempts: Vec<Value> = input["links"]
            .as_array()
            .expect("links")
            .iter()
            .filter_map(Value::as_str)
            .map(|name| attempt(name, fs::read(text(name))))
            .collect();
        attempts.push(attempt("write through a link", fs::write(text("link-relative"), "x")));
        attempts.push(attempt(
            "make an absolute link",
            make_link(base, "made-absolute", secret),
        ));
        attempts.push(attempt("read the absolute link", fs::read(text("made-absolute"))));
        // Nor is a relative one made, whether it leads out or not, so that nothing can be read through it.
        let made = make_link(base, "made-relative", "../secret.txt");
        attempts.push(attempt(
            "read the relative link",
            made.and_then(|()| fs::read(text("made-relative"))),
        ));
        attempts.push(attempt("read the link with a slash", fs::read(text("made-relative/"))));
        let control = fs::read_to_string(text("link-inside")).map_err(|error| error.to_string());
        json!({ "attempts": attempts, "control": control.unwrap_or_else(|error| error) })
    });
}
