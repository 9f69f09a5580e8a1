//! `aral explain`: the three yeses as a table. It decides nothing: it shows what the dispatch would decide.

use aral_contract::Failure;
use aral_orchestration::authorize::{Answer, Change, Decision, Document, LimitRow, Lowered, Row, Verdict, WhyNot};
use aral_orchestration::budget::TermRow;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{ContentArrangement, Table};
use serde_json::json;

use super::arguments::Explain;
use super::configured::Configured;
use super::exit::Exit;
use super::output::{Done, Output};
use super::watch::Watch;
use super::{allow, files, report, session, text};

pub(crate) fn run(arguments: &Explain, configured: &Configured, output: &Output) -> Done {
    let wanted = allow::permissions(&arguments.allow, files::absolute_text)?;
    let watch = Watch::new(output);
    let host = session::host(&configured.without_storage(), &arguments.session, &watch, output)?;
    let Some(capability) = &arguments.capability else {
        return list(&host, output);
    };
    let (id, version) = session::capability(capability)?;
    let session = session::open(&host, &arguments.session)?;
    let explanation = host.explain(&session, &id, version.as_ref())?;
    let decision = &explanation.decision;
    let why_not = arguments
        .why_not
        .then(|| host.why_not(&session, &id, version.as_ref(), &wanted))
        .transpose()?;
    let needs_more = why_not.as_ref().is_some_and(|why_not| !why_not.allowed);
    let exit = if decision.is_allowed() && !needs_more {
        Exit::Success
    } else {
        Exit::Denied
    };
    let mut object = json!({"decision": decision, "granted": decision.is_allowed()});
    let mut shown = human(decision);
    if let Some(why_not) = &why_not {
        shown.push_str(&lowered(&why_not.lowered));
        shown.push_str(&changes(why_not));
        report::insert(
            &mut object,
            "why_not",
            serde_json::to_value(why_not).map_err(Failure::internal)?,
        );
    }
    output.answer(&shown, &object)?;
    Ok(exit)
}

fn list(host: &aral_host::Host, output: &Output) -> Done {
    let capabilities = host.capabilities();
    let mut shown = String::new();
    for capability in &capabilities {
        let entry = &capability.entry;
        shown.push_str(&format!(
            "{} {}  {}\n",
            entry.id,
            entry.version,
            text::line(&entry.title)
        ));
    }
    if capabilities.is_empty() {
        output.note("no capability is registered\nhint: add `--manifest FILE`, or to aral.toml, [manifests]: files = [\"manifest.json\"]");
    }
    let objects: Vec<_> = capabilities
        .iter()
        .map(|capability| {
            let entry = &capability.entry;
            json!({"id": entry.id, "version": entry.version, "title": entry.title, "description": entry.description})
        })
        .collect();
    output.answer(&shown, &json!({ "capabilities": objects }))?;
    Ok(Exit::Success)
}

/// The decision for a person.
fn human(decision: &Decision) -> String {
    let mut table = table(&["", "manifest asks", "persona", "policy", "granted"]);
    for row in &decision.rows {
        table.add_row(cells(row));
    }
    let mut shown = format!(
        "{} {} for persona {}\n{table}\n",
        decision.capability, decision.version, decision.persona
    );
    for warning in &decision.warnings {
        shown.push_str(&format!("warning: {}\n", text::line(warning)));
    }
    match &decision.outcome {
        Ok(grant) => {
            shown.push_str(&limits(&decision.limits));
            shown.push('\n');
            shown.push_str(&agent(&decision.agent));
            shown.push_str(&format!(
                "\nclearance {}; a call costs {} millionths at most",
                decision.clearance, decision.terms.call_cost_max_micro
            ));
            if decision.never.is_empty() {
                shown.push_str(&format!("\ngranted, grant {}\n", grant.digest()));
            } else {
                shown.push_str("\ndenied\n");
            }
            for never in &decision.never {
                shown.push_str(&format!("  {never}\n"));
                for line in &never.lines {
                    shown.push_str(&format!("    hint: {}\n", text::line(line)));
                }
            }
        }
        Err(denial) => {
            shown.push_str("denied\n");
            for missing in &denial.missing {
                shown.push_str(&format!(
                    "  {}: {}\n",
                    missing.subject,
                    text::line(&missing.to_string())
                ));
                for line in &missing.lines {
                    shown.push_str(&format!("    hint: {}\n", text::line(&line.to_string())));
                }
            }
        }
    }
    shown
}

fn limits(rows: &[LimitRow]) -> String {
    let mut table = table(&["limit", "manifest asks", "policy at most", "granted"]);
    for row in rows {
        let asked = row.asked.map_or_else(|| "-".to_owned(), |asked| asked.to_string());
        table.add_row([
            row.name.to_owned(),
            asked,
            row.ceiling.to_string(),
            row.granted.to_string(),
        ]);
    }
    table.to_string()
}

fn agent(rows: &[TermRow]) -> String {
    let mut table = table(&["agent", "persona", "policy at most", "granted"]);
    for row in rows {
        let persona = row
            .persona
            .map_or_else(|| "-".to_owned(), |persona| persona.to_string());
        table.add_row([
            row.name.to_owned(),
            persona,
            row.policy.to_string(),
            row.granted.to_string(),
        ]);
    }
    table.to_string()
}

/// Numbers that one document lowers, with the one that holds.
fn lowered(numbers: &[Lowered]) -> String {
    if numbers.is_empty() {
        return String::new();
    }
    let mut shown = "numbers that one document lowers, and the line that would raise each:\n".to_owned();
    for one in numbers {
        let (name, by) = (one.name, one.by.as_str());
        let (granted, otherwise) = (one.granted, one.otherwise);
        shown.push_str(&format!(
            "  {name} = {granted}, and not {otherwise}, by the {by}: {}\n",
            one.line
        ));
    }
    shown
}

/// What would have to change, for a person to decide.
fn changes(why_not: &WhyNot) -> String {
    if why_not.allowed && why_not.rest.is_empty() {
        return "no permission has to change\n".to_owned();
    }
    if why_not.allowed {
        let rest = "nothing has to change for a call to run; what would give it the rest of the permissions that the manifest \
                    asks for:\n";
        return listed(rest, &why_not.rest);
    }
    if why_not.changes.is_empty() {
        return "nothing that could be added to manifest, persona and policy would allow it: change what the manifest asks for, or make room \
                where a list is full\n"
            .to_owned();
    }
    let smallest = "the smallest change that would allow it; nothing was changed:\n";
    listed(smallest, &why_not.changes)
}

fn listed(title: &str, changes: &[Change]) -> String {
    let mut shown = title.to_owned();
    for change in changes {
        shown.push_str(&format!("  {}\n", text::line(&change.line)));
    }
    for (document, then) in [
        (
            Document::Manifest,
            "then build and sign the manifest again: `aral manifest build FOLDER… --out NEW.json`, \
             `aral manifest sign NEW.json --key KEY.pem`, `mv NEW.json MANIFEST.json`\n",
        ),
        (
            Document::Persona,
            "then sign the persona again: `aral persona sign FILE --key KEY.pem`\n",
        ),
    ] {
        if changes.iter().any(|change| change.document == document) {
            shown.push_str(then);
        }
    }
    shown
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header);
    table
}

fn cells(row: &Row) -> [String; 5] {
    let items = |items: &[String]| match items {
        [] => "nothing".to_owned(),
        some => some
            .iter()
            .map(|item| text::line(item).into_owned())
            .collect::<Vec<_>>()
            .join("\n"),
    };
    let answer = |answer: &Answer| match answer.verdict {
        Verdict::Yes => "yes",
        Verdict::Part => "part",
        Verdict::No => "no",
    };
    [
        row.subject.to_string(),
        items(&row.asked),
        answer(&row.persona).to_owned(),
        answer(&row.policy).to_owned(),
        items(&row.granted),
    ]
}

#[cfg(test)]
mod tests {
    use aral_contract::Permission;
    use aral_orchestration::authorize::Subject;

    use super::*;

    #[test]
    fn what_was_cut_of_a_call_that_may_run_is_listed() {
        let mut why_not = WhyNot {
            allowed: true,
            ..WhyNot::default()
        };
        assert_eq!(changes(&why_not), "no permission has to change\n");
        why_not.rest.push(Change {
            document: Document::Persona,
            line: "persona, constraints: a".to_owned(),
        });
        let shown = changes(&why_not);
        assert!(
            shown.contains("the rest of the permissions")
                && shown.contains(":\n  persona, constraints: a\nthen sign the persona"),
            "{shown}"
        );
    }

    #[test]
    fn a_number_that_is_lowered_is_shown_with_whose_word_holds() {
        assert_eq!(lowered(&[]), "");
        let shown = lowered(&[Lowered {
            name: "wall_ms",
            granted: 10,
            by: Document::Policy,
            otherwise: 20,
            line: "aral.toml, [policy.limits]: wall_ms = 20".to_owned(),
        }]);
        let line = ":\n  wall_ms = 10, and not 20, by the policy: aral.toml, [policy.limits]: wall_ms = 20\n";
        assert!(shown.ends_with(line), "{shown}");
    }

    #[test]
    fn texts_of_a_manifest_cannot_forge_a_row() {
        let answer = |verdict| Answer {
            verdict,
            lines: Vec::new(),
        };
        let row = Row {
            subject: Subject::Permission(Permission::FileRead),
            asked: vec!["/data\n│ exec │ yes".to_owned(), "/b".to_owned()],
            persona: answer(Verdict::Part),
            policy: answer(Verdict::No),
            granted: Vec::new(),
        };
        let [subject, asked, persona, policy, granted] = cells(&row);
        assert_eq!(asked, "/data\\u{a}│ exec │ yes\n/b");
        assert_eq!(
            [&*subject, &*persona, &*policy, &*granted],
            ["file:read", "part", "no", "nothing"]
        );
    }
}
