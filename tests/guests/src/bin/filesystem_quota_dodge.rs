//! Tries to hold more on the disk than its quota says: holes, far offsets, appending, overwriting again and again, names
//! instead of bytes, folders and links instead of files. Each attempt begins in a folder of its own.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};

use aral_test_guests::{marker, run};
use serde_json::{Value, json};

type Dodge = fn(&str) -> io::Result<()>;

const DODGES: [(&str, Dodge); 8] = [
    ("a hole by size", |base| {
        File::create(format!("{base}/file"))?.set_len(1 << 30)
    }),
    ("a hole by offset", |base| {
        let mut file = File::create(format!("{base}/file"))?;
        file.seek(SeekFrom::Start(1 << 30))?;
        file.write_all(b"x")
    }),
    ("appending", |base| {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(format!("{base}/file"))?;
        (0..100).try_for_each(|_| file.write_all(&[b'x'; 100]))
    }),
    ("appending with a new handle each time", |base| {
        (0..100).try_for_each(|_| {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(format!("{base}/file"))?
                .write_all(&[b'x'; 100])
        })
    }),
    ("growing a file that is there", |base| {
        let mut file = OpenOptions::new().write(true).open(format!("{base}/there"))?;
        file.write_all(&[b'x'; 10_000])
    }),
    ("folders", |base| {
        (0..100).try_for_each(|number| fs::create_dir(format!("{base}/folder-{number}")))
    }),
    ("empty files", |base| {
        (0..100).try_for_each(|number| File::create(format!("{base}/empty-{number}")).map(drop))
    }),
    ("names of one file", |base| {
        fs::write(format!("{base}/one"), "x")?;
        (0..100).try_for_each(|number| fs::hard_link(format!("{base}/one"), format!("{base}/name-{number}")))
    }),
];

fn main() {
    run(|input| {
        let wanted = input["dodge"].as_u64().expect("a number") as usize;
        let base = input["base"].as_str().expect("a folder");
        let Some((name, dodge)) = DODGES.get(wanted) else {
            return Value::Null;
        };
        marker(name);
        let result = dodge(base).map_err(|error| format!("{:?}", error.kind()));
        json!({ "dodge": name, "result": result.err().unwrap_or_else(|| "ok".to_owned()) })
    });
}
