//! Test vectors of a store, in a form that other implementations can read: `tests/vectors/sealed_store.json` at the root of
//! the repository, one vector for each attack. They are made by the second implementation of the format and read by the
//! store; what is kept is what is read.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use aral_contract::Classification;
use aral_memory::{Record, RecordStore, SealedStore, StoreError};
use serde_json::{Value as Json, json};

use crate::format::{
    CHUNK_BYTES, HEADER_BYTES, Key, SEGMENT_BYTES, SLOT_BYTES, chunk_nonce, derive, hex, mac, page, record_associated,
    root_associated, seal, slot_associated, slot_key, slots_header, unhex,
};
use crate::support::{KEY, OTHER_KEY, Place, open};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tests/vectors/sealed_store.json");
const NOW: i64 = 1_767_225_600;
const STORE: [u8; 16] = *b"vectors' store.\n";
const OTHER_STORE: [u8; 16] = *b"another store.\n\n";
const ROOT: Key = *b"the root key of the test vectors";

/// One record of the store.
struct Sample {
    space: u8,
    namespace: &'static str,
    name: &'static str,
    value: Vec<u8>,
    version: u64,
    expires: u64,
    class: u8,
    slot: u32,
    /// Stands for what is random: the record's key, the nonce of its slot, the id of its chunks.
    seed: u8,
}

/// A store, as it lies in its files.
#[derive(Default)]
struct Image {
    tree: BTreeMap<Vec<u8>, Vec<u8>>,
    slots: BTreeMap<u32, Vec<u8>>,
}

fn names_key() -> Key {
    derive(&STORE, &ROOT, b"aral.memory/v1/names")
}

fn namespace_place(space: u8, namespace: &str) -> Vec<u8> {
    let mac = mac(&names_key(), &[&[space], namespace.as_bytes()]);
    [&[space], &mac[..16]].concat()
}

impl Sample {
    fn place(&self) -> Vec<u8> {
        let namespace = namespace_place(self.space, self.namespace);
        let mac = mac(&names_key(), &[&namespace, self.name.as_bytes()]);
        [namespace.as_slice(), &mac].concat()
    }

    fn header(&self, generation: u32) -> Vec<u8> {
        let header = [
            &[1, self.class][..],
            &u16::try_from(self.name.len()).expect("short").to_le_bytes(),
            &self.slot.to_le_bytes(),
            &generation.to_le_bytes(),
            &self.version.to_le_bytes(),
            &self.expires.to_le_bytes(),
            &u32::try_from(self.value.len()).expect("short").to_le_bytes(),
            &[self.seed; 8],
        ]
        .concat();
        assert_eq!(header.len(), HEADER_BYTES);
        header
    }

    fn key(&self) -> Key {
        derive(b"vectors", &[self.seed; 32], b"record key")
    }

    fn entry_key(&self) -> Vec<u8> {
        [b"r".as_slice(), &self.place()].concat()
    }

    fn chunk_key(&self, index: u32) -> Vec<u8> {
        [
            b"c".as_slice(),
            &self.slot.to_be_bytes(),
            &[self.seed; 8],
            &index.to_be_bytes(),
        ]
        .concat()
    }

    fn expiry_key(&self) -> Vec<u8> {
        [b"e".as_slice(), &self.expires.to_be_bytes(), &self.place()].concat()
    }

    /// As it is sealed in the store of this name, under this root, in this generation.
    fn write(&self, store: &[u8], root: &Key, generation: u32, image: &mut Image) {
        let (header, key, place) = (self.header(generation), self.key(), self.place());
        let mut associated = record_associated(store, &header, self.space, self.namespace);
        let mut entry = header.clone();
        entry.extend(seal(&key, [0; 12], &associated, self.name.as_bytes()));
        associated.extend_from_slice(self.name.as_bytes());
        if self.value.len() <= CHUNK_BYTES {
            entry.extend(seal(&key, chunk_nonce(0), &associated, &self.value));
        } else {
            for (index, chunk) in (0..).zip(self.value.chunks(CHUNK_BYTES)) {
                let sealed = seal(&key, chunk_nonce(index), &associated, chunk);
                image.tree.insert(self.chunk_key(index), sealed);
            }
        }
        image.tree.insert(self.entry_key(), entry);
        if self.expires > 0 {
            image.tree.insert(self.expiry_key(), Vec::new());
        }
        let nonce = [self.seed; 12];
        let associated = slot_associated(store, self.slot, generation, &place);
        let sealed = seal(&slot_key(store, root, generation), nonce, &associated, &key);
        let mut slot = [&generation.to_le_bytes(), nonce.as_slice(), &sealed, &place].concat();
        slot.resize(SLOT_BYTES, 0);
        image.slots.insert(self.slot, slot);
    }

    fn describe(&self) -> Json {
        // A long value is told by what it repeats.
        let repeats = if self.value.len() > CHUNK_BYTES {
            16
        } else {
            self.value.len()
        };
        json!({
            "space": if self.space == b'm' { "memory" } else { "secrets" },
            "namespace": self.namespace,
            "name": self.name,
            "value": { "repeats": hex(&self.value[..repeats]), "bytes": self.value.len() },
            "version": self.version,
            "classification": Classification::ALL[usize::from(self.class)].as_str(),
            "expires": self.expires,
        })
    }
}

fn sample(name: &'static str, value: &[u8], slot: u32) -> Sample {
    Sample {
        space: b'm',
        namespace: "notes",
        name,
        value: value.to_vec(),
        version: 1,
        expires: 0,
        class: 1,
        slot,
        seed: u8::try_from(slot).expect("a small number") + 100,
    }
}

/// The records of the store that is as it should be.
fn samples() -> Vec<Sample> {
    let long = b"0123456789abcdef"
        .iter()
        .copied()
        .cycle()
        .take(20_000)
        .collect::<Vec<u8>>();
    vec![
        Sample {
            class: 0,
            version: 3,
            ..sample("greeting", b"hello", 0)
        },
        Sample {
            expires: 1_900_000_000,
            ..sample("brief", b"until 2030", 1)
        },
        Sample {
            class: 2,
            ..sample("long", &long, 2)
        },
        sample("empty", b"", 3),
        Sample {
            namespace: "other",
            class: 3,
            ..sample("greeting", b"hello elsewhere", 4)
        },
        Sample {
            space: b's',
            class: 3,
            ..sample("greeting", b"a secret", 5)
        },
        sample("beside", b"stays as it is", 6),
        sample("n\u{f6}te/1 \u{1f980}", b"a name of many bytes", 7),
    ]
}

fn find<'a>(samples: &'a [Sample], namespace: &str, space: u8, name: &str) -> &'a Sample {
    let found = samples
        .iter()
        .find(|one| one.namespace == namespace && one.space == space && one.name == name);
    found.expect("a sample")
}

fn image() -> Image {
    let (samples, mut image) = (samples(), Image::default());
    let mut usages: BTreeMap<(u8, &str), (u64, u64)> = BTreeMap::new();
    for one in &samples {
        one.write(&STORE, &ROOT, 1, &mut image);
        let usage = usages.entry((one.space, one.namespace)).or_default();
        usage.0 += (one.name.len() + one.value.len()) as u64;
        usage.1 += 1;
    }
    for ((space, namespace), (bytes, records)) in usages {
        let place = namespace_place(space, namespace);
        let nonce = [space; 12];
        let associated = [b"aral.memory/v1/namespace".as_slice(), &[space], &place].concat();
        let key = derive(&STORE, &ROOT, b"aral.memory/v1/namespaces");
        let sealed = [nonce.as_slice(), &seal(&key, nonce, &associated, namespace.as_bytes())].concat();
        image.tree.insert([b"n".as_slice(), &place].concat(), sealed);
        let counted = [bytes.to_le_bytes(), records.to_le_bytes()].concat();
        image.tree.insert([b"u".as_slice(), &place].concat(), counted);
    }
    // The number of the newest commit: none was written yet. A database without it is damaged.
    image.tree.insert(b"s".to_vec(), 0_u64.to_le_bytes().to_vec());
    image
}

/// The page of a keyring whose root is sealed under `master` for `store`.
fn keyring(format: u32, sequence: u64, sealed_for: &[u8], master: &str) -> Vec<u8> {
    let master = unhex(master).expect("a master key");
    let id = &derive(b"", &master, b"aral.memory/v1/master-id")[..8];
    let sealing = derive(b"", &master, b"aral.memory/v1/master-seal");
    let nonce = [9; 12];
    let sealed = [
        nonce.as_slice(),
        &seal(&sealing, nonce, &root_associated(sealed_for, 1), &ROOT),
    ]
    .concat();
    let json = json!({
        "roots": [{ "number": 1, "first_generation": 1, "seals": [{ "key": hex(id), "sealed": hex(&sealed) }] }],
        "generation": 1,
        "seals": 16_777_216,
    });
    page(format, sequence, &STORE, &json.to_string())
}

fn set(key: &[u8], value: &[u8]) -> Json {
    json!({ "set": hex(key), "to": hex(value) })
}

fn copy(key: &[u8], from: &[u8]) -> Json {
    json!({ "set": hex(key), "copy_of": hex(from) })
}

fn remove(key: &[u8]) -> Json {
    json!({ "remove": hex(key) })
}

fn set_slot(number: u32, slot: &[u8]) -> Json {
    json!({ "slot": number, "to": hex(slot) })
}

fn vector(name: &str, read: &Sample, expected: &str, changes: Vec<Json>) -> Json {
    let space = if read.space == b'm' { "memory" } else { "secrets" };
    json!({
        "name": name,
        "read": { "space": space, "namespace": read.namespace, "name": read.name },
        "expected": expected,
        "expected_listing": expected,
        "changes": changes,
    })
}

/// The same, where listing names does not meet the damage, or alone does.
fn listed(mut vector: Json, expected: &str) -> Json {
    vector["expected_listing"] = json!(expected);
    vector
}

/// The entry of a record with one byte changed.
fn changed(image: &Image, sample: &Sample, at: usize, to: u8) -> Json {
    let mut entry = image.tree[&sample.entry_key()].clone();
    assert_ne!(entry[at], to);
    entry[at] = to;
    set(&sample.entry_key(), &entry)
}

fn record_vectors(image: &Image) -> Vec<Json> {
    let samples = samples();
    let memory = |name| find(&samples, "notes", b'm', name);
    let (greeting, brief, long) = (memory("greeting"), memory("brief"), memory("long"));
    let elsewhere = find(&samples, "other", b'm', "greeting");
    let secret = find(&samples, "notes", b's', "greeting");
    let key = greeting.entry_key();
    let entry = &image.tree[&key];
    let older = {
        let mut older = Image::default();
        Sample {
            version: 2,
            value: b"before".to_vec(),
            slot: 9,
            ..sample("greeting", b"", 9)
        }
        .write(&STORE, &ROOT, 1, &mut older);
        older.tree[&key].clone()
    };
    let foreign = {
        let mut foreign = Image::default();
        greeting_of(&samples).write(&OTHER_STORE, &ROOT, 1, &mut foreign);
        foreign
    };
    let mut later = brief.entry_key();
    later[0] = b'e';
    let expires_later = 2_000_000_000_u64;
    later.splice(1..1, expires_later.to_be_bytes());
    let mut prolonged = image.tree[&brief.entry_key()].clone();
    prolonged[20..28].copy_from_slice(&expires_later.to_le_bytes());
    let damaged = |name: &str, changes: Vec<Json>| vector(name, greeting, "damaged", changes);
    // Listing opens names and no values.
    let value_damaged = |name: &str, changes: Vec<Json>| listed(damaged(name, changes), "valid");
    let chunk_damaged = |name: &str, changes: Vec<Json>| listed(vector(name, long, "damaged", changes), "valid");
    vec![
        damaged("a record under another name", vec![copy(&key, &brief.entry_key())]),
        damaged(
            "a record of another namespace under the same name",
            vec![copy(&key, &elsewhere.entry_key())],
        ),
        damaged("a secret where agents read", vec![copy(&key, &secret.entry_key())]),
        vector(
            "a later expiry",
            brief,
            "damaged",
            vec![
                set(&brief.entry_key(), &prolonged),
                set(&later, b""),
                remove(&brief.expiry_key()),
            ],
        ),
        vector("no expiry any more", brief, "damaged", {
            let mut lasting = image.tree[&brief.entry_key()].clone();
            lasting[20..28].fill(0);
            vec![set(&brief.entry_key(), &lasting), remove(&brief.expiry_key())]
        }),
        vector(
            "a lower classification",
            elsewhere,
            "damaged",
            vec![changed(image, elsewhere, 1, 0)],
        ),
        damaged(
            "a classification that does not exist",
            vec![changed(image, greeting, 1, 4)],
        ),
        damaged("a lower version of the record", vec![changed(image, greeting, 12, 2)]),
        damaged("a shorter name than was sealed", vec![changed(image, greeting, 2, 7)]),
        damaged("a longer value than was sealed", vec![changed(image, greeting, 28, 6)]),
        damaged("another generation", vec![changed(image, greeting, 8, 2)]),
        damaged("the slot of another record", vec![changed(image, greeting, 4, 1)]),
        damaged("a slot that does not exist", vec![changed(image, greeting, 7, 255)]),
        damaged("a copy of the record's slot in another place", {
            let mut moved = entry.clone();
            moved[4..8].copy_from_slice(&8_u32.to_le_bytes());
            vec![set(&key, &moved), set_slot(8, &image.slots[&0])]
        }),
        damaged(
            "the slot of another record in its place",
            vec![set_slot(0, &image.slots[&1])],
        ),
        damaged("a destroyed slot", vec![set_slot(0, &[0; SLOT_BYTES])]),
        damaged("a slot of which half is destroyed", {
            let mut half = image.slots[&0].clone();
            half[..SLOT_BYTES / 2].fill(0);
            vec![set_slot(0, &half)]
        }),
        damaged("an older record, whose slot is destroyed", vec![set(&key, &older)]),
        damaged(
            "a record of another store",
            vec![set(&key, &foreign.tree[&key]), set_slot(0, &foreign.slots[&0])],
        ),
        value_damaged(
            "a byte of the value changed",
            vec![changed(image, greeting, entry.len() - 20, !entry[entry.len() - 20])],
        ),
        listed(
            vector(
                "a byte of the name changed",
                greeting,
                "valid",
                vec![changed(image, greeting, HEADER_BYTES, !entry[HEADER_BYTES])],
            ),
            "damaged",
        ),
        value_damaged(
            "a byte of the tag changed",
            vec![changed(image, greeting, entry.len() - 1, !entry[entry.len() - 1])],
        ),
        value_damaged("one byte cut off", vec![set(&key, &entry[..entry.len() - 1])]),
        value_damaged("one byte more", vec![set(&key, &[entry.as_slice(), &[0]].concat())]),
        damaged("a header and nothing else", vec![set(&key, &entry[..HEADER_BYTES])]),
        damaged("half a header", vec![set(&key, &entry[..HEADER_BYTES / 2])]),
        damaged("nothing at all", vec![set(&key, b"")]),
        damaged("format 0 of the record", vec![changed(image, greeting, 0, 0)]),
        vector(
            "format 2 of the record",
            greeting,
            "newer",
            vec![changed(image, greeting, 0, 2)],
        ),
        vector("no such record", greeting, "absent", vec![remove(&key)]),
        chunk_damaged("a chunk that is not there", vec![remove(&long.chunk_key(1))]),
        chunk_damaged(
            "chunks in another order",
            vec![
                copy(b"x", &long.chunk_key(0)),
                copy(&long.chunk_key(0), &long.chunk_key(1)),
                copy(&long.chunk_key(1), b"x"),
                remove(b"x"),
            ],
        ),
        chunk_damaged("a chunk that is cut off", {
            let chunk = &image.tree[&long.chunk_key(1)];
            vec![set(&long.chunk_key(1), &chunk[..chunk.len() - 1])]
        }),
        vector("a shorter value, of fewer chunks", long, "damaged", {
            let mut shorter = image.tree[&long.entry_key()].clone();
            shorter[28..32].copy_from_slice(&16_385_u32.to_le_bytes());
            vec![set(&long.entry_key(), &shorter)]
        }),
    ]
}

fn greeting_of(samples: &[Sample]) -> &Sample {
    find(samples, "notes", b'm', "greeting")
}

fn store_vectors() -> Vec<Json> {
    let samples = samples();
    let whole = |name: &str, expected: &str, member: &str, content: Json| {
        let mut vector = vector(name, greeting_of(&samples), expected, Vec::new());
        vector[member] = content;
        vector
    };
    let pages = |one: &[u8], two: &[u8]| json!([sparse(one), sparse(two)]);
    let (good, newer) = (keyring(1, 7, &STORE, KEY), keyring(1, 8, &STORE, KEY));
    let torn = [&newer[..8192], &good[8192..]].concat();
    let mut flipped = good.clone();
    flipped[100] ^= 1;
    let mut of_flipped_format = good.clone();
    of_flipped_format[9] ^= 1;
    let header = |format, store: &[u8]| json!(hex(&slots_header(format, store)[..28]));
    vec![
        whole(
            "the second page of the keyring torn while it was written",
            "valid",
            "keyring",
            pages(&newer, &torn),
        ),
        whole(
            "the first page of the keyring torn while it was written",
            "valid",
            "keyring",
            pages(&torn, &good),
        ),
        whole(
            "both pages of the keyring damaged",
            "damaged",
            "keyring",
            pages(&flipped, &torn),
        ),
        whole("a keyring of format 2", "newer", "keyring", {
            let page = keyring(2, 7, &STORE, KEY);
            pages(&page, &page)
        }),
        whole(
            "a keyring of which one page is of format 2",
            "newer",
            "keyring",
            pages(&good, &keyring(2, 8, &STORE, KEY)),
        ),
        whole(
            "a keyring of which one page has a damaged format",
            "valid",
            "keyring",
            pages(&good, &of_flipped_format),
        ),
        whole(
            "a keyring of which both pages have a damaged format",
            "damaged",
            "keyring",
            pages(&of_flipped_format, &of_flipped_format),
        ),
        whole("a keyring of format 0", "damaged", "keyring", {
            let page = keyring(0, 7, &STORE, KEY);
            pages(&page, &page)
        }),
        whole("a keyring under another master key", "wrong key", "keyring", {
            let page = keyring(1, 7, &STORE, OTHER_KEY);
            pages(&page, &page)
        }),
        whole("a root key that was sealed for another store", "damaged", "keyring", {
            let page = keyring(1, 7, &OTHER_STORE, KEY);
            pages(&page, &page)
        }),
        whole(
            "a slot file of format 2 beside a keyring of format 1",
            "damaged",
            "slots_header",
            header(2, &STORE),
        ),
        whole(
            "the slot file of another store",
            "damaged",
            "slots_header",
            header(1, &OTHER_STORE),
        ),
        whole(
            "a file that is no slot file",
            "damaged",
            "slots_header",
            json!(hex(&[0; 28])),
        ),
    ]
}

fn vectors() -> Json {
    let image = image();
    let tree: BTreeMap<String, String> = image.tree.iter().map(|(key, value)| (hex(key), hex(value))).collect();
    let slots: Vec<String> = image.slots.values().map(|slot| hex(slot)).collect();
    let valid: Vec<Json> = samples()
        .iter()
        .map(|one| vector("as it was written", one, "valid", Vec::new()))
        .collect();
    let all = [valid, record_vectors(&image), store_vectors()].concat();
    json!({
        "master_key": KEY,
        "now": NOW,
        "store": hex(&STORE),
        "root_key": hex(&ROOT),
        "keyring": [sparse(&keyring(1, 7, &STORE, KEY)), sparse(&keyring(1, 7, &STORE, KEY))],
        "slots_header": hex(&slots_header(1, &STORE)[..28]),
        "slots": slots,
        "tree": tree,
        "records": samples().iter().map(Sample::describe).collect::<Vec<_>>(),
        "vectors": all,
    })
}

/// Bytes that are mostly zeros: hex of what is not, and numbers that say how many zeros are between.
fn sparse(bytes: &[u8]) -> Json {
    let zeros = |run: &&[u8]| run.len() > 64 && run[0] == 0;
    let mut parts: Vec<Json> = Vec::new();
    let mut plain: Vec<u8> = Vec::new();
    for run in bytes.chunk_by(|one, next| (*one == 0) == (*next == 0)) {
        if zeros(&run) {
            parts.push(json!(hex(&std::mem::take(&mut plain))));
            parts.push(json!(run.len()));
        } else {
            plain.extend_from_slice(run);
        }
    }
    parts.push(json!(hex(&plain)));
    json!(parts)
}

fn sparse_bytes_of(parts: &Json) -> Vec<u8> {
    let part = |part: &Json| match part.as_u64() {
        Some(zeros) => vec![0; usize::try_from(zeros).expect("few zeros")],
        None => bytes_of(part),
    };
    let parts = parts.as_array().expect("parts");
    parts.iter().flat_map(part).collect()
}

fn bytes_of(value: &Json) -> Vec<u8> {
    unhex(value.as_str().expect("a text")).expect("hex")
}

/// Lays the store of the vectors, with the changes of one of them, into a folder.
fn lay_out(folder: &Path, kept: &Json, vector: &Json) {
    let part = |member: &str| vector.get(member).unwrap_or(&kept[member]);
    let mut tree: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for (key, value) in kept["tree"].as_object().expect("a tree") {
        tree.insert(unhex(key).expect("hex"), bytes_of(value));
    }
    let mut slots: Vec<Vec<u8>> = kept["slots"].as_array().expect("slots").iter().map(bytes_of).collect();
    slots.resize(16, vec![0; SLOT_BYTES]);
    for change in vector["changes"].as_array().expect("changes") {
        if let Some(number) = change["slot"].as_u64() {
            slots[usize::try_from(number).expect("few slots")] = bytes_of(&change["to"]);
        } else if let Some(from) = change.get("copy_of") {
            let value = tree[&bytes_of(from)].clone();
            tree.insert(bytes_of(&change["set"]), value);
        } else if let Some(value) = change.get("to") {
            tree.insert(bytes_of(&change["set"]), bytes_of(value));
        } else {
            tree.remove(&bytes_of(&change["remove"])).expect("something to remove");
        }
    }
    std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
        .create(folder)
        .expect("a folder");
    let pages = part("keyring")
        .as_array()
        .expect("two pages")
        .iter()
        .map(sparse_bytes_of);
    std::fs::write(folder.join("keyring"), pages.collect::<Vec<_>>().concat()).expect("a keyring");
    let mut file = bytes_of(part("slots_header"));
    file.resize(crate::format::SLOTS_FROM, 0);
    file.extend(slots.concat());
    std::fs::write(folder.join("slots"), file).expect("a slot file");
    // Closed in order: nothing is cleaned up before it was looked at.
    std::fs::write(folder.join("closed"), b"").expect("a mark");
    let settings = sled::Config::new()
        .path(folder.join("records"))
        .segment_size(SEGMENT_BYTES);
    let database = settings.open().expect("a database");
    for (key, value) in tree {
        database.insert(key, value).expect("an entry");
    }
    database.flush().expect("a flush");
}

fn view(store: &SealedStore, what: &Json) -> Arc<dyn RecordStore> {
    match what["space"].as_str() {
        Some("memory") => store.memory(),
        Some("secrets") => store.secrets(),
        other => panic!("no space: {other:?}"),
    }
}

fn read(store: &SealedStore, what: &Json) -> Result<Option<Record>, StoreError> {
    let text = |member: &str| what[member].as_str().expect("a text");
    let (namespace, name) = (text("namespace").parse(), text("name").parse());
    view(store, what).get(&namespace.expect("a namespace"), &name.expect("a name"))
}

/// Whether a record is the one that is described.
fn is_as_described(record: &Record, described: &Json) -> bool {
    let repeats = bytes_of(&described["value"]["repeats"]);
    let bytes = usize::try_from(described["value"]["bytes"].as_u64().expect("a number")).expect("short");
    let expires = record.expires_at.map_or(0, |expires_at| expires_at.as_second());
    let value: Vec<u8> = repeats.iter().copied().cycle().take(bytes).collect();
    *record.value == value
        && Some(record.version) == described["version"].as_u64()
        && described["classification"] == record.classification.as_str()
        && Some(expires) == described["expires"].as_i64()
}

fn described<'a>(kept: &'a Json, what: &Json) -> &'a Json {
    let records = kept["records"].as_array().expect("records");
    let same = |one: &&Json| {
        ["space", "namespace", "name"]
            .iter()
            .all(|member| one[member] == what[member])
    };
    records.iter().find(same).expect("a record")
}

fn word(error: StoreError) -> &'static str {
    match error {
        StoreError::Corrupt { .. } => "damaged",
        StoreError::Version { .. } => "newer",
        StoreError::WrongKey { .. } => "wrong key",
        other => panic!("{other:?}"),
    }
}

/// What reading the record comes to, and listing its namespace.
fn verdicts(kept: &Json, vector: &Json) -> (&'static str, &'static str) {
    let place = Place::new();
    lay_out(&place.store(), kept, vector);
    let master = kept["master_key"].as_str().expect("a key");
    let store = match open(&place.store(), master, NOW) {
        Ok(store) => store,
        Err(error) => {
            let refused = word(error);
            return (refused, refused);
        }
    };
    let asked = &vector["read"];
    let found = match read(&store, asked) {
        Ok(Some(record)) if is_as_described(&record, described(kept, asked)) => "valid",
        Ok(Some(_)) => "another record",
        Ok(None) => "absent",
        Err(error) => word(error),
    };
    // Whatever was done to one record, the others are as they were.
    for other in kept["records"].as_array().expect("records") {
        if described(kept, asked) != other {
            let record = read(&store, other).expect("another record").expect("another record");
            assert!(
                is_as_described(&record, other),
                "{}: {} is another one",
                vector["name"],
                other["name"]
            );
        }
    }
    let namespace = asked["namespace"]
        .as_str()
        .expect("a text")
        .parse()
        .expect("a namespace");
    let listing = match view(&store, asked).list(&namespace, "", None, 100) {
        Ok(page) if page.names.iter().any(|name| asked["name"] == name.as_str()) => "valid",
        Ok(_) => "absent",
        Err(error) => word(error),
    };
    (found, listing)
}

#[test]
fn the_kept_vectors_are_those_that_are_made() {
    let made = format!("{:#}\n", vectors());
    if std::env::var_os("ARAL_UPDATE_VECTORS").is_some() {
        std::fs::write(FILE, &made).expect("the file is written");
    }
    let kept = std::fs::read_to_string(FILE).expect("the file is there");
    assert!(
        kept == made,
        "the vectors have changed: look at why, then run this test with ARAL_UPDATE_VECTORS=1"
    );
}

#[test]
fn each_vector_reads_as_it_says() {
    let kept: Json = serde_json::from_str(&std::fs::read_to_string(FILE).expect("the file is there")).expect("JSON");
    let vectors = kept["vectors"].as_array().expect("vectors");
    assert!(vectors.len() > 45, "{} vectors", vectors.len());
    for vector in vectors {
        let (found, listing) = verdicts(&kept, vector);
        assert_eq!(found, vector["expected"], "{}", vector["name"]);
        assert_eq!(listing, vector["expected_listing"], "listing: {}", vector["name"]);
    }
}
