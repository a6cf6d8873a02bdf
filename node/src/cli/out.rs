//! Standard output in one of three forms.
//!
//! - `simple`: what etcdctl prints, line by line. Keys and values are the bytes themselves, or with `--hex`
//!   escapes such as `\x66\x6f`.
//! - `table`: for people. What is not text is escaped.
//! - `json`: for programs. One object per answer, on one line; watches and elections one object per
//!   change. Field names are stable. A key or value that is text stands under its name (`"key"`); one that
//!   is not stands in base64 under the name with `_base64`. Ids are hexadecimal text.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use meridian_client::KeyValue;
use serde_json::{Map, Value, json};

/// A form of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Form {
    /// A table, for people
    Table,
    /// JSON, for programs
    Json,
    /// Plain lines, as etcdctl prints them
    Simple,
}

/// Where answers go.
pub(super) struct Out {
    form: Option<Form>,
    hex: bool,
    colours: bool,
    sink: Box<dyn Write>,
}

impl Out {
    /// Standard output.
    pub(super) fn stdout(form: Option<Form>, hex: bool) -> Self {
        let colours = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self {
            form,
            hex,
            colours,
            sink: Box::new(io::stdout()),
        }
    }

    /// Standard output, for text that has one form only.
    pub(super) fn plain() -> Self {
        Self {
            form: None,
            hex: false,
            colours: false,
            sink: Box::new(io::stdout()),
        }
    }

    /// Somewhere else.
    #[cfg(test)]
    pub(super) fn into(sink: Box<dyn Write>, form: Option<Form>, hex: bool) -> Self {
        Self {
            form,
            hex,
            colours: false,
            sink,
        }
    }

    /// The form to use, where the command's own is `usual`.
    pub(super) fn form_or(&self, usual: Form) -> Form {
        self.form.unwrap_or(usual)
    }

    /// Writes one line of text.
    pub(super) fn line(&mut self, line: impl AsRef<str>) -> io::Result<()> {
        self.sink.write_all(line.as_ref().as_bytes())?;
        self.sink.write_all(b"\n")?;
        self.sink.flush()
    }

    /// Writes a key or value as a line.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.hex {
            return self.line(escapes(bytes));
        }
        self.sink.write_all(bytes)?;
        self.sink.write_all(b"\n")?;
        self.sink.flush()
    }

    /// Writes bytes as they are.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sink.write_all(bytes)?;
        self.sink.flush()
    }

    /// Writes one object on one line.
    pub(super) fn json(&mut self, value: &Value) -> io::Result<()> {
        self.line(value.to_string())
    }

    /// Writes a table. Nothing but the header if there are no rows.
    pub(super) fn table(&mut self, header: &[&str], rows: Vec<Vec<String>>) -> io::Result<()> {
        let mut table = Table::new();
        table.load_preset(UTF8_FULL_CONDENSED);
        table.set_header(header);
        for row in rows {
            table.add_row(row);
        }
        self.line(table.to_string())
    }

    /// Marks what is good or bad, on a terminal.
    pub(super) fn mark(&self, text: &str, good: bool) -> String {
        match (self.colours, good) {
            (false, _) => text.to_owned(),
            (true, true) => format!("\x1b[32m{text}\x1b[0m"),
            (true, false) => format!("\x1b[31m{text}\x1b[0m"),
        }
    }

    /// A key or value for a cell of a table.
    pub(super) fn cell(&self, bytes: &[u8]) -> String {
        match std::str::from_utf8(bytes) {
            Ok(text) if !self.hex && !text.chars().any(char::is_control) => text.to_owned(),
            Ok(text) if !self.hex => text.escape_debug().to_string(),
            _ => escapes(bytes),
        }
    }

    /// Puts a key or value into an object.
    pub(super) fn put_bytes(&self, object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
        let (name, text) = match std::str::from_utf8(bytes) {
            _ if self.hex => (name.to_owned(), escapes(bytes)),
            Ok(text) => (name.to_owned(), text.to_owned()),
            Err(_) => (format!("{name}_base64"), STANDARD.encode(bytes)),
        };
        object.insert(name, Value::String(text));
    }

    /// A version of a key as an object.
    pub(super) fn kv_json(&self, kv: &KeyValue) -> Value {
        let mut object = Map::new();
        self.put_bytes(&mut object, "key", &kv.key);
        self.put_bytes(&mut object, "value", &kv.value);
        object.insert("create_revision".into(), json!(kv.create_revision));
        object.insert("mod_revision".into(), json!(kv.mod_revision));
        object.insert("version".into(), json!(kv.version));
        if kv.lease != 0 {
            object.insert("lease".into(), json!(lease_id(kv.lease)));
        }
        Value::Object(object)
    }

    /// Versions of keys as a table.
    pub(super) fn kv_table(&mut self, kvs: &[KeyValue]) -> io::Result<()> {
        let row = |kv: &KeyValue| {
            vec![
                self.cell(&kv.key),
                self.cell(&kv.value),
                kv.create_revision.to_string(),
                kv.mod_revision.to_string(),
                kv.version.to_string(),
                if kv.lease == 0 {
                    String::new()
                } else {
                    lease_id(kv.lease)
                },
            ]
        };
        let rows = kvs.iter().map(row).collect();
        self.table(
            &["KEY", "VALUE", "CREATED", "MODIFIED", "VERSION", "LEASE"],
            rows,
        )
    }
}

/// Every byte as an escape.
fn escapes(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 4), |mut text, byte| {
            // Writing to a string can not fail.
            let _ = write!(text, "\\x{byte:02x}");
            text
        })
}

/// A lease id as etcdctl writes it.
pub(super) fn lease_id(id: i64) -> String {
    format!("{id:016x}")
}

/// A member's or cluster's id as etcdctl writes it.
pub(super) fn member_id(id: u64) -> String {
    format!("{id:x}")
}

/// A number of bytes for people.
pub(super) fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}
