//! The whole command line: that it can be parsed, completed and explained.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::cell::RefCell;
use std::io::Write;
use std::rc::Rc;

use clap::Command;

use super::failure::Failure;
use super::out::{Form, Out};

/// What a command prints in a form.
pub(super) fn printed(form: Form, show: impl FnOnce(&mut Out) -> Result<(), Failure>) -> String {
    printed_with(form, false, show)
}

fn printed_with(
    form: Form,
    hex: bool,
    show: impl FnOnce(&mut Out) -> Result<(), Failure>,
) -> String {
    #[derive(Clone, Default)]
    struct Paper(Rc<RefCell<Vec<u8>>>);
    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let paper = Paper::default();
    show(&mut Out::into(Box::new(paper.clone()), Some(form), hex)).unwrap();
    let bytes = paper.0.borrow().clone();
    String::from_utf8(bytes).unwrap()
}

fn whole() -> Command {
    super::augment(Command::new("meridian").subcommand_required(true))
}

/// Every command a person can type, at least once.
const GOOD: &str = "\
kv put a b
kv put a
kv put a b --lease 7b --prev-kv --tenant t
kv put a --ignore-value
kv get a
kv get a b --limit 3 --rev 7 --sort-by modified --descending
kv get a --prefix --keys-only -o json
kv get a --from-key --count-only --serializable
kv get a --print-value-only --hex
kv del a
kv delete a --prefix --prev-kv
kv compact 5 --physical
watch a
watch a --prefix --rev 3 --prev-kv --no-put --no-delete --progress-notify --count 2
txn
txn -c 'x' -s 'put' -s 'get' -f 'del'
txn --file t.txn
txn -i
lease grant 60
lease grant 60 --id 7b
lease revoke 7b
lease keep-alive 7b --once
lease keepalive 7b
lease timetolive 7b --keys
lease list
lock l
lock l --ttl 5 --no-wait -- sh -c 'echo $MERIDIAN_LOCK_TOKEN'
elect e me
elect e --listen
tenant create t --bytes 64MiB --keys 5 --watchers 2 --requests-per-second 100 --keep-for 24h
tenant list
tenant show t
tenant quota t --keep-revisions 1000
tenant delete t --yes
member list
member add n --peer-urls http://a:2380,http://b:2380 --learner
member remove 8e9e
member promote 8e9e
member update 8e9e --peer-urls http://a:2380
member move-leader 8e9e
status --cluster
alarm list
alarm disarm
defrag --cluster
hashkv --rev 3
snapshot save f.snapshot
completion bash
completion zsh
completion fish
kv --endpoints http://a:1,http://b:2 get k --timeout 500ms
kv get k --cacert ca --cert c --key k
--endpoints http://a:1 --tenant t -o json kv get k
snapshot status f.snapshot
snapshot restore f.snapshot --data-dir d --name a --initial-cluster a=http://a:2380 --initial-cluster-token t";

/// What must be refused before anything is sent.
const BAD: &str = "\
kv
kv put
kv get
kv get a b --prefix
kv get a --print-value-only --keys-only
kv put a b --ignore-value
kv compact x
kv get a --timeout soon
kv get a --cert c
kv get a -o xml
lease grant 0
lease revoke xyz
elect e
elect e v --listen
lock l --ttl 0
member remove node1
member add n
tenant create
tenant create t --bytes lots
txn --file f -c x
snapshot restore f
completion ksh
nonsense";

fn parse(line: &str) -> Result<(), clap::Error> {
    let words = std::iter::once("meridian").chain(line.split(' '));
    let matches = whole().try_get_matches_from(words)?;
    use clap::FromArgMatches as _;
    super::Verb::from_arg_matches(&matches).map(drop)
}

#[test]
fn the_command_line_is_consistent() {
    whole().debug_assert();
}

#[test]
fn every_command_is_understood() {
    for line in GOOD.lines() {
        if let Err(error) = parse(line) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn what_makes_no_sense_is_refused_as_usage() {
    for line in BAD.lines() {
        let error = parse(line).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

#[test]
fn flags_before_the_noun_count_unless_they_are_repeated_after_it() {
    use clap::FromArgMatches as _;
    let endpoints = |line: &str| {
        let matches = whole().try_get_matches_from(line.split(' ')).unwrap();
        let mut verb = super::Verb::from_arg_matches(&matches).unwrap();
        let reach = verb.reach().unwrap();
        reach.take_over(&matches);
        (reach.endpoints.clone(), reach.form())
    };
    let (before, form) = endpoints("meridian --endpoints http://b:1 -o json kv get k");
    assert_eq!(
        (before, form),
        (vec!["http://b:1".to_owned()], Some(Form::Json))
    );
    let (after, form) = endpoints("meridian -o table kv get k --endpoints http://a:1 -o json");
    assert_eq!(
        (after, form),
        (vec!["http://a:1".to_owned()], Some(Form::Json))
    );
}

#[test]
fn help_of_every_noun_documents_exit_codes_and_the_way_to_the_cluster() {
    for noun in whole().get_subcommands_mut() {
        if noun.get_name() == "completion" {
            continue;
        }
        let help = noun.render_long_help().to_string();
        assert!(help.contains("Exit codes:"), "{help}");
        assert!(help.contains("MERIDIAN_ENDPOINTS"), "{help}");
    }
}

#[test]
fn completion_scripts_know_the_nouns() {
    for shell in [
        clap_complete::Shell::Bash,
        clap_complete::Shell::Zsh,
        clap_complete::Shell::Fish,
    ] {
        let mut script = vec![];
        clap_complete::generate(shell, &mut whole(), "meridian", &mut script);
        let script = String::from_utf8(script).unwrap();
        for noun in ["kv", "tenant", "snapshot", "move-leader"] {
            assert!(script.contains(noun), "{shell}: {noun}");
        }
    }
}

#[test]
fn keys_and_values_that_are_not_text_can_be_read_by_people_and_programs() {
    let kv = meridian_client::KeyValue {
        key: "k\n".into(),
        create_revision: 2,
        mod_revision: 3,
        version: 2,
        value: b"\xff\x00".as_slice().into(),
        lease: 0x7b,
    };
    let json = |hex| {
        printed_with(Form::Json, hex, |out| {
            let value = out.kv_json(&kv);
            Ok(out.json(&value)?)
        })
    };
    assert_eq!(
        json(false),
        "{\"create_revision\":2,\"key\":\"k\\n\",\"lease\":\"000000000000007b\",\
         \"mod_revision\":3,\"value_base64\":\"/wA=\",\"version\":2}\n"
    );
    assert!(json(true).contains(r#""value":"\\xff\\x00""#));
    let table = printed(Form::Table, |out| {
        Ok(out.kv_table(std::slice::from_ref(&kv))?)
    });
    assert_eq!(
        table,
        "\
┌─────┬──────────┬─────────┬──────────┬─────────┬──────────────────┐
│ KEY ┆ VALUE    ┆ CREATED ┆ MODIFIED ┆ VERSION ┆ LEASE            │
╞═════╪══════════╪═════════╪══════════╪═════════╪══════════════════╡
│ k\\n ┆ \\xff\\x00 ┆ 2       ┆ 3        ┆ 2       ┆ 000000000000007b │
└─────┴──────────┴─────────┴──────────┴─────────┴──────────────────┘
"
    );
}
