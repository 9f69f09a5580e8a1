//! `aral secret`: where secrets are, and storing them there. Values come in unseen and go out with `--reveal` alone.

use aral_capability::egress::inject::check_value;
use aral_contract::id::SecretName;
use aral_contract::secret::SECRET_BYTES_MAX;
use aral_contract::{Code, Failure, SecretReference};
use aral_host::operator as verb;
use serde_json::{Value, json};

use super::arguments::storage::{Secret, SecretDelete, SecretGet, SecretPut};
use super::configured::Configured;
use super::desk::{Desk, Opens};
use super::exit::Exit;
use super::output::{Done, Output, Stop, failure_object};
use super::{text, value};

pub(crate) fn run(secret: &Secret, configured: &Configured, output: &Output) -> Done {
    match secret {
        Secret::Get(arguments) => get(arguments, configured, output),
        Secret::Put(arguments) => put(arguments, false, configured, output),
        Secret::Rotate(arguments) => put(arguments, true, configured, output),
        Secret::Delete(arguments) => delete(arguments, configured, output),
        Secret::List => list(&mut open(configured, None, Opens::ToRead)?, output),
    }
}

/// The store is opened for a secret that lies in it, and for a listing: others work beside a host that has it open.
fn open(configured: &Configured, name: Option<&SecretName>, opens: Opens) -> Result<Desk, Failure> {
    let config = &configured.config;
    let elsewhere = |name| {
        let names = config.secrets.as_ref().map(|secrets| &secrets.names);
        let reference = names.and_then(|names| names.get(name));
        reference.is_some_and(|reference| !matches!(reference, SecretReference::Local { .. }))
    };
    let is_opened = config.memory.is_some() && !name.is_some_and(elsewhere);
    Desk::open(configured, if is_opened { opens } else { Opens::Nothing })
}

fn get(arguments: &SecretGet, configured: &Configured, output: &Output) -> Done {
    let name = &arguments.name;
    let reveal = arguments.show.reveal || arguments.show.out.is_some();
    let found = open(configured, Some(name), Opens::ToRead)?.act(verb::SecretGet {
        name: name.clone(),
        reveal,
    })?;
    let reference = found.reference.ok_or_else(|| {
        let here = match &configured.config.memory {
            Some(_) => format!("or store it: `aral secret put {name}`"),
            None => format!(
                "or have a store for it: `aral memory keygen master.key`, in aral.toml, [memory.master_key]: file = \"master.key\", \
                 then `aral secret put {name}`"
            ),
        };
        Failure::new(Code::RecordUnknown, format!("there is no secret `{name}`")).with_hint(format!(
            "aral.toml, [secrets.names]: {name} = \"vault://MOUNT/PATH#FIELD\"; {here}"
        ))
    })?;
    let facts = format!("secret     {name}\nreference  {reference}");
    let object = json!({"name": name, "reference": reference});
    let value = found.value.as_ref().map(verb::Hidden::expose).unwrap_or_default();
    value::show(&arguments.show, value, &facts, object, output)?;
    Ok(Exit::Success)
}

fn new_value(arguments: &SecretPut) -> Result<verb::Hidden, Failure> {
    let source = arguments.value.as_deref();
    let value = if arguments.exact {
        value::read(source, "secret", SECRET_BYTES_MAX)?
    } else {
        value::read_line(source, "secret", SECRET_BYTES_MAX)?
    };
    Ok(verb::Hidden::new(value))
}

fn put(arguments: &SecretPut, rotate: bool, configured: &Configured, output: &Output) -> Done {
    let (name, value) = (&arguments.name, new_value(arguments)?);
    let unfit = check_value(value.expose()).err();
    let changed = open(configured, Some(name), Opens::ToWrite)?.act(verb::SecretPut {
        name: name.clone(),
        value,
        rotate,
    });
    let changed = changed.map_err(|failure| unknown(name, failure))?;
    if let Some(why) = unfit {
        output.warn(&format!(
            "a capability can read {name}, and no request can carry it in a header: {why}"
        ));
    }
    let (reference, did) = (changed.done, if rotate { "rotated" } else { "stored" });
    output.changed(
        &format!("{did} {name} at {reference}"),
        json!({"name": name, "reference": reference}),
        changed.unrecorded.as_deref(),
    )
}

fn delete(arguments: &SecretDelete, configured: &Configured, output: &Output) -> Done {
    let name = &arguments.name;
    let changed = open(configured, Some(name), Opens::ToWrite)?.act(verb::SecretDelete { name: name.clone() });
    let changed = changed.map_err(|failure| unknown(name, failure))?;
    let reference = changed.done;
    output.changed(
        &format!("deleted {name}, which was at {reference}; its key is destroyed"),
        json!({"name": name, "reference": reference}),
        changed.unrecorded.as_deref(),
    )
}

/// What did not work with a secret of this name, with the step where there is none.
fn unknown(name: &SecretName, failure: Failure) -> Failure {
    if failure.code != Code::RecordUnknown || failure.hint.is_some() {
        return failure;
    }
    failure.with_hint(format!(
        "see which there are: `aral secret list`; or store it: `aral secret put {name}`"
    ))
}

/// Page by page: a store may hold more than memory does.
fn list(desk: &mut Desk, output: &Output) -> Done {
    let mut page = |cursor: Option<String>| desk.act(verb::SecretList { cursor });
    let mut next = page(None)?;
    if output.json {
        output.part("{\"secrets\":[")?;
    }
    let mut first = true;
    loop {
        for place in &next.secrets {
            show(place, std::mem::take(&mut first), output)?;
        }
        next = match next.cursor.map(|cursor| page(Some(cursor))) {
            None => break,
            Some(Ok(page)) => page,
            Some(Err(failure)) if output.json => {
                let error = failure_object(&failure);
                output.part(&text::json(&format!("],\"error\":{error}}}\n")))?;
                return Ok(Exit::of(failure.code));
            }
            Some(Err(failure)) => return Err(failure.into()),
        };
    }
    if output.json {
        output.part("]}\n")?;
    }
    Ok(Exit::Success)
}

fn show(place: &verb::SecretStored, first: bool, output: &Output) -> Result<(), Stop> {
    if !output.json {
        return output.part(&format!("{}  {}\n", place.name, place.reference));
    }
    let object: Value = json!({"name": place.name, "reference": place.reference});
    output.part(&format!("{}{object}", if first { "" } else { "," }))
}
