//! Messages as JSON, by etcd's rules, and back.
//!
//! ```text
//!   in    bytes: base64          64-bit numbers: text or numbers     enums: names or numbers
//!         names: of the schema, or lowerCamelCase                    unknown names: passed over
//!   out   bytes: base64, padded  64-bit numbers: text                enums: names
//!         names: of the schema   zero values: left out
//! ```
//!
//! JSON may nest 128 deep (the parser's bound), messages 100 (the decoder's); neither can overflow a stack.

use bytes::Bytes;
use prost::Message;
use prost_reflect::{
    DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, SerializeOptions,
};
use serde::Deserialize;
use serde_json::Value;

/// Unknown names are dropped before; what is left must fit, so that a misspelt enum is not taken for zero.
const STRICT: DeserializeOptions = DeserializeOptions::new().deny_unknown_fields(true);

const PLAIN: SerializeOptions = SerializeOptions::new().use_proto_field_name(true);

/// Reads the JSON at the beginning of `text`; what follows it is not looked at. The error says what is wrong.
pub fn read(of: &MessageDescriptor, text: &[u8]) -> Result<Bytes, String> {
    let mut parser = serde_json::Deserializer::from_slice(text);
    let mut value = Value::deserialize(&mut parser).map_err(|error| error.to_string())?;
    if !value.is_object() {
        return Err(format!("a JSON object is expected for {}", of.full_name()));
    }
    drop_unknown(&mut value, of);
    let message = DynamicMessage::deserialize_with_options(of.clone(), value, &STRICT)
        .map_err(|error| error.to_string())?;
    Ok(message.encode_to_vec().into())
}

/// Writes an encoded message as JSON. The error says what is wrong with the bytes.
pub fn write(of: &MessageDescriptor, message: Bytes) -> Result<Vec<u8>, String> {
    let message = DynamicMessage::decode(of.clone(), message).map_err(|error| error.to_string())?;
    let mut text = Vec::with_capacity(256);
    let mut writer = serde_json::Serializer::new(&mut text);
    message
        .serialize_with_options(&mut writer, &PLAIN)
        .map_err(|error| error.to_string())?;
    Ok(text)
}

/// Drops what the schema has no name for, at every depth.
fn drop_unknown(value: &mut Value, of: &MessageDescriptor) {
    let Value::Object(entries) = value else {
        return;
    };
    entries.retain(|name, value| {
        let Some(field) = field(of, name) else {
            return false;
        };
        if let Kind::Message(inner) = field.kind() {
            match value {
                Value::Array(list) => list.iter_mut().for_each(|one| drop_unknown(one, &inner)),
                one => drop_unknown(one, &inner),
            }
        }
        true
    });
}

fn field(of: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    of.get_field_by_json_name(name)
        .or_else(|| of.get_field_by_name(name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use meridian_proto::etcdserverpb as pb;
    use meridian_proto::mvccpb;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn of(name: &str) -> MessageDescriptor {
        meridian_proto::descriptors()
            .get_message_by_name(name)
            .unwrap()
    }

    fn range(text: &str) -> Result<pb::RangeRequest, String> {
        let bytes = read(&of("etcdserverpb.RangeRequest"), text.as_bytes())?;
        Ok(pb::RangeRequest::decode(bytes).unwrap())
    }

    fn show(name: &str, message: &impl Message) -> Value {
        let text = write(&of(name), message.encode_to_vec().into()).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    #[test]
    fn a_request_may_use_either_name_either_number_and_unknown_fields() {
        let read = range(
            r#"{"key":"Zm9v","rangeEnd":"Zm9w","limit":"5","revision":7,"sort_order":"DESCEND",
                "sortTarget":3,"keys_only":true,"nonsense":{"deep":[1]},"serializable":null} trailing"#,
        )
        .unwrap();
        let want = pb::RangeRequest {
            key: "foo".into(),
            range_end: "fop".into(),
            limit: 5,
            revision: 7,
            sort_order: 2,
            sort_target: 3,
            keys_only: true,
            ..pb::RangeRequest::default()
        };
        assert_eq!(read, want);
        assert_eq!(range("{}").unwrap(), pb::RangeRequest::default());
    }

    #[test]
    fn unknown_fields_are_passed_over_at_every_depth() {
        let text = r#"{"compare":[{"key":"YQ==","x":1}],"success":[{"request_put":{"key":"YQ==","y":{}}}]}"#;
        let bytes = read(&of("etcdserverpb.TxnRequest"), text.as_bytes()).unwrap();
        let txn = pb::TxnRequest::decode(bytes).unwrap();
        assert_eq!((txn.compare.len(), txn.success.len()), (1, 1));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for bad in [
            "",
            "null",
            "nul",
            "[]",
            "7",
            "{",
            r#"{"key":7}"#,
            r#"{"key":"*"}"#,
            r#"{"limit":"x"}"#,
            r#"{"limit":1.5}"#,
            r#"{"limit":"9223372036854775808"}"#,
            r#"{"sort_order":"FOO"}"#,
            r#"{"serializable":"yes"}"#,
        ] {
            assert!(range(bad).is_err(), "{bad}");
        }
        let two = r#"{"request_put":{},"request_range":{}}"#;
        assert!(read(&of("etcdserverpb.RequestOp"), two.as_bytes()).is_err());
    }

    #[test]
    fn an_answer_leaves_out_zeroes_and_writes_long_numbers_as_text() {
        let header = pb::ResponseHeader {
            cluster_id: u64::MAX,
            member_id: 2,
            revision: 3,
            raft_term: 0,
        };
        let kv = mvccpb::KeyValue {
            key: "foo".into(),
            create_revision: 2,
            mod_revision: 3,
            version: 2,
            value: "bar2".into(),
            lease: 0,
        };
        let response = pb::RangeResponse {
            header: Some(header),
            kvs: vec![kv],
            more: false,
            count: 1,
        };
        assert_eq!(
            show("etcdserverpb.RangeResponse", &response),
            json!({
                "header": {"cluster_id": "18446744073709551615", "member_id": "2", "revision": "3"},
                "kvs": [{"key": "Zm9v", "create_revision": "2", "mod_revision": "3", "version": "2",
                         "value": "YmFyMg=="}],
                "count": "1",
            })
        );
    }

    #[test]
    fn names_and_enums_are_those_of_the_schema() {
        let response = pb::AlarmResponse {
            header: None,
            alarms: vec![pb::AlarmMember {
                member_id: 5,
                alarm: 1,
            }],
        };
        assert_eq!(
            show("etcdserverpb.AlarmResponse", &response),
            json!({"alarms": [{"memberID": "5", "alarm": "NOSPACE"}]})
        );
        let put = pb::ResponseOp {
            response: Some(pb::response_op::Response::ResponsePut(
                pb::PutResponse::default(),
            )),
        };
        assert_eq!(
            show("etcdserverpb.ResponseOp", &put),
            json!({"response_put": {}})
        );
        let hash = pb::HashKvResponse {
            hash: 7,
            hash_revision: 8,
            ..Default::default()
        };
        assert_eq!(
            show("etcdserverpb.HashKVResponse", &hash),
            json!({"hash": 7, "hash_revision": "8"})
        );
    }

    #[test]
    fn deep_nesting_is_refused_and_does_not_overflow() {
        let deep = |levels: usize| {
            let open = r#"{"success":[{"request_txn":"#.repeat(levels);
            format!("{open}{{}}{}", "}]}".repeat(levels))
        };
        let txn = of("etcdserverpb.TxnRequest");
        assert!(read(&txn, deep(16).as_bytes()).is_ok());
        assert!(read(&txn, deep(100_000).as_bytes()).is_err());
        assert!(read(&txn, "[".repeat(1_000_000).as_bytes()).is_err());
    }

    /// JSON that is often near a request: known names, wrong kinds.
    fn nearly() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[A-Za-z0-9+/=_-]{0,12}".prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "(NONE|ASCEND|VALUE|NOPUT|FOO|-1)".prop_map(Value::from),
        ];
        let name = prop_oneof![
            "(key|value|range_end|rangeEnd|lease|limit|sort_order|compare|success|failure|result)",
            "(target|version|request_put|requestRange|request_txn|create_request|filters|ID|TTL)",
            any::<String>(),
        ];
        leaf.prop_recursive(6, 64, 6, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::hash_map(name.clone(), inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn rubbish_is_refused_or_read_but_never_a_panic(text in any::<Vec<u8>>()) {
            let _ = read(&of("etcdserverpb.TxnRequest"), &text);
        }

        #[test]
        fn what_was_read_can_be_written_and_read_again(value in nearly()) {
            let text = value.to_string();
            for name in ["TxnRequest", "RangeRequest", "WatchRequest", "LeaseGrantRequest"] {
                let of = of(&format!("etcdserverpb.{name}"));
                if let Ok(message) = read(&of, text.as_bytes()) {
                    let shown = write(&of, message.clone()).unwrap();
                    prop_assert_eq!(read(&of, &shown).unwrap(), message);
                }
            }
        }
    }
}
