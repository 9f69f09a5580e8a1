//! Every permission in its forms, and what each refusal says.

use serde_json::{Value, json};

use super::*;

fn read(options: &[&str]) -> Result<Permissions, Failure> {
    let options: Vec<String> = options.iter().map(|text| (*text).to_owned()).collect();
    permissions(&options, |path| {
        Ok(if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/here/{path}")
        })
    })
}

fn check(options: &[&str], expected: Value) {
    assert_eq!(
        serde_json::to_value(read(options).unwrap()).unwrap(),
        expected,
        "{options:?}"
    );
}

fn check_refused(option: &str, reason: &str) {
    let failure = read(&[option]).unwrap_err();
    assert_eq!(failure.code, Code::ConfigInvalid, "{option}");
    assert!(failure.message.contains(reason), "{option}: {}", failure.message);
}

#[test]
fn all_nine_permissions() {
    check(&[], json!({}));
    check(
        &["network:read=https://a.example", "network:read=http://127.0.0.1:80"],
        json!({"network:read": {"hosts": ["https://a.example", "http://127.0.0.1"]}}),
    );
    check(
        &["network:write=https://*.example.org:8443"],
        json!({"network:write": {"hosts": ["https://*.example.org:8443"]}}),
    );
    check(
        &["file:read=/srv/a:b:/data", "file:read=c:/c"],
        json!({"file:read": {"paths": [{"host": "/srv/a:b", "guest": "/data"}, {"host": "/here/c", "guest": "/c"}]}}),
    );
    check(
        &["file:write=/out:/out,files=3,bytes=7"],
        json!({"file:write": {"paths": [{"host": "/out", "guest": "/out", "bytes_max": 7, "files_max": 3}]}}),
    );
    check(
        &["file:write=/out:/out"],
        json!({"file:write": {"paths": [{"host": "/out", "guest": "/out", "bytes_max": 16 << 20, "files_max": 64}]}}),
    );
    check(
        &["secret:read=token,hosts=https://a.example+https://b.example,header=Authorization,prefix=Bearer "],
        json!({"secret:read": {"secrets": [{
            "name": "token", "use": "inject", "hosts": ["https://a.example", "https://b.example"],
            "header": "authorization", "prefix": "Bearer "
        }]}}),
    );
    check(
        &["secret:read=token,use=reveal"],
        json!({"secret:read": {"secrets": [{"name": "token", "use": "reveal"}]}}),
    );
    check(&["secret:write=token"], json!({"secret:write": {"names": ["token"]}}));
    check(
        &["memory:read=a", "memory:read=b"],
        json!({"memory:read": {"namespaces": ["a", "b"]}}),
    );
    check(
        &["memory:write=a,bytes=5,records=6", "memory:write=b,bytes=5,records=6"],
        json!({"memory:write": {"namespaces": ["a", "b"], "bytes_max": 5, "records_max": 6}}),
    );
    check(
        &["exec=/usr/bin/git log  -n {integer}", r#"exec=["/bin/echo","a b"]"#],
        json!({"exec": {"programs": [
            {"path": "/usr/bin/git", "args": ["log", "-n", "{integer}"]},
            {"path": "/bin/echo", "args": ["a b"]}
        ]}}),
    );
}

#[test]
fn what_is_refused_and_why() {
    check_refused("network", "write PERMISSION=SCOPE");
    check_refused("network=x", "`network` is not a permission");
    check_refused("exec=", "the scope is empty");
    check_refused("network:read=https://user@a.example", "user information is not allowed");
    check_refused("network:read=https://ä.example", "not ASCII");
    check_refused("file:read=/data", "write HOSTPATH:GUESTPATH");
    check_refused("file:read=/srv/../etc:/data", "not an absolute plain path");
    check_refused("file:read=/srv:/data/../x", "not an absolute plain path");
    check_refused("file:write=/a:/a,bytes=many", "`many` is not a number");
    check_refused("file:write=/a:/a,bytes=1,bytes=2", "`bytes` is given twice");
    check_refused("file:write=/a:/a,quota=1", "`quota` is not known here");
    check_refused("file:write=/a:/a,quota", "`quota` is not NAME=VALUE");
    check_refused("secret:read=token", "needs `hosts=` and `header=`");
    check_refused("secret:read=token,use=steal", "not `steal`");
    check_refused("secret:read=token,use=reveal,header=x", "takes neither");
    check_refused("secret:write=TOKEN", "is not an identifier");
    check_refused("memory:read=a b", "is not an identifier");
    check_refused("exec=git log", "not an absolute plain path");
    check_refused("exec=/bin/sh {any}", "is not an argument pattern");
    check_refused("exec=[1]", "invalid type");
    let failure = read(&["memory:write=a", "memory:write=b,bytes=1"]).unwrap_err();
    assert!(failure.message.contains("the same `bytes=`"), "{}", failure.message);
}

#[test]
fn limits_by_name() {
    let read = |options: &[&str]| limits(&options.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
    assert_eq!(
        read(&["fuel=5", "wall_ms=9"]).unwrap().entries(),
        [("fuel", 5), ("wall_ms", 9)]
    );
    for (options, reason) in [
        (&["fuel"][..], "write NAME=NUMBER"),
        (&["fuel=-1"], "`-1` is not a number"),
        (&["fuel=1", "fuel=2"], "given twice"),
        (&["memory_mb=1"], "unknown field `memory_mb`"),
    ] {
        let failure = read(options).unwrap_err();
        assert!(failure.message.contains(reason), "{options:?}: {}", failure.message);
    }
}
