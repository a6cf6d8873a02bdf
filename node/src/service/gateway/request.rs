//! A request on its way in: headers become metadata, JSON becomes framed messages.
//!
//! ```text
//!   Authorization: T              authorization: T
//!   Grpc-Metadata-Key: v          key: v
//!   Meridian-Key: v               meridian-key: v
//!   Traceparent, Tracestate       the same
//!   Grpc-Timeout: 5S              grpc-timeout: 5S
//!   User-Agent, Accept, ...       grpcgateway-user-agent, grpcgateway-accept (always there)
//! ```
//!
//! Whatever a header says, it can not become a field that steers the transport itself.

use std::time::Duration;

use axum::body::Body;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body_util::BodyExt;
use prost_reflect::MessageDescriptor;
use tonic::Status;

use super::json;
use crate::service::MESSAGE_BYTES_MAX;
use crate::service::context::grpc_timeout;
use crate::status::{Etcd, Refusal};

/// The most bytes of one JSON object: what base64 and names can make of the largest message.
pub const OBJECT_BYTES_MAX: usize = 2 * MESSAGE_BYTES_MAX;

/// Headers that stand for themselves on every request and are shown to services under another name.
const PERMANENT: &[HeaderName] = &[
    header::ACCEPT,
    header::ACCEPT_CHARSET,
    header::ACCEPT_LANGUAGE,
    header::ACCEPT_RANGES,
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::DATE,
    header::EXPECT,
    header::FROM,
    header::HOST,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_UNMODIFIED_SINCE,
    header::MAX_FORWARDS,
    header::ORIGIN,
    header::PRAGMA,
    header::REFERER,
    header::USER_AGENT,
    header::VIA,
    header::WARNING,
];

/// Headers that are metadata under their own names, beside those of Meridian.
const CARRIED: &[&str] = &["authorization", "traceparent", "tracestate"];

/// Fields of the transport, which no `Grpc-Metadata-` header may set.
const RESERVED: &[&str] = &[
    "connection",
    "content-length",
    "content-type",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The metadata of a call, and how long it may take if the caller says so.
pub fn metadata(headers: &HeaderMap) -> Result<(HeaderMap, Option<Duration>), Status> {
    let mut metadata = HeaderMap::with_capacity(headers.len() + 2);
    let mut timeout = None;
    for (name, value) in headers {
        let text = name.as_str();
        if text == "grpc-timeout" {
            let parsed = grpc_timeout(value.as_bytes()).ok_or_else(|| {
                let shown = String::from_utf8_lossy(value.as_bytes()).into_owned();
                Status::invalid_argument(format!("invalid grpc-timeout: {shown}"))
            })?;
            timeout = Some(parsed);
            metadata.insert(name.clone(), value.clone());
        } else if let Some(key) = text.strip_prefix("grpc-metadata-") {
            let reserved = RESERVED.contains(&key) || key.starts_with("grpc");
            if let (false, Ok(key)) = (reserved, HeaderName::try_from(key)) {
                metadata.append(key, value.clone());
            }
        } else if text.starts_with("meridian-") || CARRIED.contains(&text) {
            metadata.append(name.clone(), value.clone());
        }
        if PERMANENT.contains(name)
            && let Ok(key) = HeaderName::try_from(format!("grpcgateway-{text}"))
        {
            metadata.append(key, value.clone());
        }
    }
    // What tells a service that the caller is behind this gateway, whatever the caller sent.
    if !metadata.contains_key("grpcgateway-accept") {
        metadata.insert("grpcgateway-accept", HeaderValue::from_static("*/*"));
    }
    metadata.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    metadata.insert(header::TE, HeaderValue::from_static("trailers"));
    Ok((metadata, timeout))
}

/// The JSON objects of a body, one after the other.
pub struct Objects {
    body: Body,
    of: MessageDescriptor,
    buffer: BytesMut,
    scan: Scan,
}

/// How far the first object of the buffer was looked through.
#[derive(Clone, Copy, Debug, Default)]
struct Scan {
    at: usize,
    depth: usize,
    in_text: bool,
    escaped: bool,
}

impl Objects {
    /// The objects of a body that stand for messages of one kind.
    pub fn new(body: Body, of: MessageDescriptor) -> Self {
        Self {
            body,
            of,
            buffer: BytesMut::new(),
            scan: Scan::default(),
        }
    }

    /// The next one as a framed message; none at the end of the body.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(end) = self.first_object()? {
                let text = self.buffer.split_to(end);
                self.scan = Scan::default();
                return json::read(&self.of, &text)
                    .map(|message| Some(framed(&message)))
                    .map_err(malformed);
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.take(data)?;
                    }
                }
                Some(Err(error)) => return Err(malformed(error.to_string())),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(malformed("the JSON ends too early".into())),
            }
        }
    }

    fn take(&mut self, data: Bytes) -> Result<(), Status> {
        let bytes = self.buffer.len() + data.len();
        if bytes > OBJECT_BYTES_MAX {
            let (bytes, limit) = (bytes as u64, OBJECT_BYTES_MAX as u64);
            return Err(Refusal::from(Etcd::MessageTooLarge { bytes, limit }).into());
        }
        self.buffer.put(data);
        Ok(())
    }

    /// Where the first object of the buffer ends, if all of it is here. Blanks before it are dropped.
    fn first_object(&mut self) -> Result<Option<usize>, Status> {
        if self.scan.at == 0 {
            let blank = self
                .buffer
                .iter()
                .take_while(|byte| byte.is_ascii_whitespace())
                .count();
            self.buffer.advance(blank);
            match self.buffer.first() {
                None => return Ok(None),
                Some(b'{') => {}
                Some(_) => return Err(malformed("a JSON object is expected".into())),
            }
        }
        let scan = &mut self.scan;
        for (at, byte) in self.buffer.iter().enumerate().skip(scan.at) {
            match byte {
                _ if scan.escaped => scan.escaped = false,
                b'\\' if scan.in_text => scan.escaped = true,
                b'"' => scan.in_text = !scan.in_text,
                b'{' | b'[' if !scan.in_text => scan.depth += 1,
                b'}' | b']' if !scan.in_text => {
                    scan.depth -= 1;
                    if scan.depth == 0 {
                        return Ok(Some(at + 1));
                    }
                }
                _ => {}
            }
        }
        scan.at = self.buffer.len();
        Ok(None)
    }
}

/// A message as gRPC frames it: not compressed, its length, its bytes.
pub fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put_slice(message);
    frame.freeze()
}

fn malformed(what: String) -> Status {
    Status::invalid_argument(what)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::convert::Infallible;

    use meridian_proto::etcdserverpb::LeaseKeepAliveRequest;
    use proptest::prelude::*;
    use prost::Message;
    use tonic::Code;

    use super::*;

    fn objects(pieces: Vec<Vec<u8>>) -> Objects {
        let of = meridian_proto::descriptors()
            .get_message_by_name("etcdserverpb.LeaseKeepAliveRequest")
            .unwrap();
        let pieces = pieces
            .into_iter()
            .map(|piece| Ok::<_, Infallible>(Bytes::from(piece)));
        Objects::new(Body::from_stream(futures::stream::iter(pieces)), of)
    }

    fn all(mut objects: Objects) -> (Vec<i64>, Option<Code>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut ids = vec![];
            loop {
                match objects.next().await {
                    Ok(Some(frame)) => {
                        ids.push(LeaseKeepAliveRequest::decode(frame.slice(5..)).unwrap().id);
                    }
                    Ok(None) => return (ids, None),
                    Err(status) => return (ids, Some(status.code())),
                }
            }
        })
    }

    #[test]
    fn objects_follow_one_another_however_they_arrive() {
        let text = br#" {"ID":"1"}{"ID":2,"x":"}\"{"}
            {"ID":3,"y":[{}]} "#;
        assert_eq!(all(objects(vec![text.to_vec()])), (vec![1, 2, 3], None));
        let bytewise = text.iter().map(|byte| vec![*byte]).collect();
        assert_eq!(all(objects(bytewise)), (vec![1, 2, 3], None));
        assert_eq!(all(objects(vec![])), (vec![], None));
    }

    #[test]
    fn what_is_no_object_is_refused_after_those_before_it() {
        let bad = Some(Code::InvalidArgument);
        assert_eq!(
            all(objects(vec![b"{\"ID\":1} nope".to_vec()])),
            (vec![1], bad)
        );
        assert_eq!(
            all(objects(vec![b"{\"ID\":1}{\"ID\":".to_vec()])),
            (vec![1], bad)
        );
        assert_eq!(all(objects(vec![b"]".to_vec()])), (vec![], bad));
    }

    #[test]
    fn an_object_that_never_ends_is_not_buffered_for_ever() {
        let piece = vec![b' '; 1 << 20];
        let mut pieces = vec![b"{".to_vec()];
        pieces.extend(std::iter::repeat_n(piece, 8));
        assert_eq!(
            all(objects(pieces)),
            (vec![], Some(Code::ResourceExhausted))
        );
    }

    #[test]
    fn headers_become_metadata_but_never_steer_the_transport() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "token"),
            ("grpc-metadata-hasleader", "true"),
            ("grpc-metadata-content-length", "7"),
            ("grpc-metadata-grpc-timeout", "1n"),
            ("grpc-metadata-grpcgateway-accept", "forged"),
            ("meridian-tenant", "acme"),
            ("grpc-timeout", "5S"),
            ("traceparent", "00-1-2-01"),
            ("user-agent", "curl"),
            ("x-other", "1"),
        ] {
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        let (metadata, timeout) = metadata(&headers).unwrap();
        let get = |key: &str| metadata.get(key).map(|value| value.to_str().unwrap());
        assert_eq!(timeout, Some(Duration::from_secs(5)));
        assert_eq!(get("authorization"), Some("token"));
        assert_eq!(get("grpcgateway-authorization"), Some("token"));
        assert_eq!(get("hasleader"), Some("true"));
        assert_eq!(get("meridian-tenant"), Some("acme"));
        assert_eq!(get("traceparent"), Some("00-1-2-01"));
        assert_eq!(get("grpcgateway-user-agent"), Some("curl"));
        assert_eq!(get("grpcgateway-accept"), Some("*/*"));
        assert_eq!(get("content-length"), None);
        assert_eq!(get("grpc-timeout"), Some("5S"));
        assert_eq!(get("x-other"), None);
        assert_eq!(get("content-type"), Some("application/grpc"));
    }

    proptest! {
        #[test]
        fn rubbish_is_refused_but_never_a_panic(pieces in proptest::collection::vec(any::<Vec<u8>>(), 0..4)) {
            all(objects(pieces));
        }

        #[test]
        fn nearly_json_is_refused_but_never_a_panic(text in r#"[{}\[\]"\\,:0-9a-z \n]{0,40}"#) {
            all(objects(vec![text.into_bytes()]));
        }
    }
}
