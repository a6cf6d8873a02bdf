//! An answer on its way out: framed messages become JSON, a status becomes an HTTP status.
//!
//! ```text
//!   one answer      {..}                                        200
//!   a stream        {"result":{..}} one on a line               200, decided by the first one
//!   an error        {"code":5,"message":".."}                   by the table in `status`
//!   ... in a stream {"error":{"code":5,"message":".."}}
//! ```

use axum::body::Body;
use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt;
use prost_reflect::MessageDescriptor;
use serde_json::json;
use tonic::{Code, Status};

use super::json;
use crate::pipeline::off_the_reactor;
use crate::status::http_of;

/// Messages larger than this are turned into JSON where it holds up nobody else, in bytes.
const LIGHT_BYTES_MAX: usize = 256 << 10;

/// The messages of a gRPC answer.
pub struct Messages {
    body: Body,
    buffer: BytesMut,
    /// How it ended, once it has.
    end: Option<Status>,
}

impl Messages {
    /// The messages of an answer.
    pub fn new(response: Response<Body>) -> Self {
        let (head, body) = response.into_parts();
        let end = Status::from_header_map(&head.headers);
        Self {
            body,
            buffer: BytesMut::new(),
            end,
        }
    }

    /// The next one; none at the end if all went well.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.first_message() {
                return Ok(Some(message));
            }
            if let Some(end) = &self.end {
                return if end.code() == Code::Ok {
                    Ok(None)
                } else {
                    Err(end.clone())
                };
            }
            match self.body.frame().await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.buffer.extend_from_slice(&data),
                    Err(frame) => {
                        self.end = frame.trailers_ref().and_then(Status::from_header_map);
                    }
                },
                Some(Err(error)) => self.end = Some(Status::internal(error.to_string())),
                None => self.end = Some(Status::internal("the answer ended without a status")),
            }
        }
    }

    fn first_message(&mut self) -> Option<Bytes> {
        let (head, rest) = self.buffer.split_at_checked(5)?;
        let length = head.get(1..).map(|mut length| length.get_u32() as usize)?;
        if rest.len() < length {
            self.buffer.reserve(5 + length - self.buffer.len());
            return None;
        }
        self.buffer.advance(5);
        Some(self.buffer.split_to(length).freeze())
    }
}

/// A message as JSON.
pub fn json_of(of: &MessageDescriptor, message: Bytes) -> Result<Vec<u8>, Status> {
    let is_heavy = message.len() > LIGHT_BYTES_MAX;
    let write = || json::write(of, message).map_err(Status::internal);
    if is_heavy {
        off_the_reactor(write)
    } else {
        write()
    }
}

/// One line of a stream.
pub fn line(of: &MessageDescriptor, message: Bytes) -> Result<Bytes, Status> {
    let inner = json_of(of, message)?;
    let mut line = Vec::with_capacity(inner.len() + 12);
    line.extend_from_slice(b"{\"result\":");
    line.extend_from_slice(&inner);
    line.extend_from_slice(b"}\n");
    Ok(line.into())
}

/// The last line of a stream that failed.
pub fn error_line(status: &Status) -> Bytes {
    let error = json!({"error": {"code": status.code() as i32, "message": status.message()}});
    format!("{error}\n").into()
}

/// The answer to a call that failed.
pub fn refusal(status: &Status) -> Response<Body> {
    let body = json!({"code": status.code() as i32, "message": status.message()});
    failed(status, body.to_string().into())
}

/// The answer to a call that failed before the first line of its stream.
pub fn stream_refusal(status: &Status) -> Response<Body> {
    failed(status, error_line(status))
}

fn failed(status: &Status, body: Bytes) -> Response<Body> {
    let mut response = answer(http_of(status.code()), Body::from(body));
    if status.code() == Code::Unauthenticated
        && let Ok(message) = HeaderValue::try_from(status.message())
    {
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, message);
    }
    show_metadata(status.metadata().as_ref(), response.headers_mut());
    response
}

/// An answer of JSON.
pub fn answer(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// Shows what a service says beside its answer as `Grpc-Metadata-` headers.
pub fn show_metadata(metadata: &HeaderMap, headers: &mut HeaderMap) {
    for (key, value) in metadata {
        let text = key.as_str();
        if text.starts_with("grpc-") || *key == header::CONTENT_LENGTH {
            continue;
        }
        if let Ok(name) = HeaderName::try_from(format!("grpc-metadata-{text}")) {
            headers.append(name, value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::convert::Infallible;

    use super::*;
    use crate::service::gateway::request::framed;

    #[tokio::test]
    async fn messages_are_found_however_they_are_cut() {
        let bytes = [framed(b"one"), framed(b""), framed(b"three")].concat();
        for size in 1..bytes.len() {
            let pieces: Vec<_> = bytes
                .chunks(size)
                .map(|c| Ok::<_, Infallible>(Bytes::copy_from_slice(c)))
                .collect();
            let body = Body::from_stream(futures::stream::iter(pieces));
            let mut messages = Messages::new(Response::new(body));
            for want in ["one", "", "three"] {
                assert_eq!(messages.next().await.unwrap().unwrap(), want);
            }
            assert_eq!(messages.next().await.unwrap_err().code(), Code::Internal);
        }
    }

    #[tokio::test]
    async fn a_refusal_without_a_body_is_found_in_the_headers() {
        let response: Response<Body> = Status::not_found("gone").into_http();
        let refused = Messages::new(response).next().await.unwrap_err();
        assert_eq!(
            (refused.code(), refused.message()),
            (Code::NotFound, "gone")
        );
    }

    #[test]
    fn errors_have_etcds_shape_and_status() {
        let status = Status::out_of_range("etcdserver: mvcc: required revision has been compacted");
        let response = refusal(&status);
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        let line: serde_json::Value = serde_json::from_slice(&error_line(&status)).unwrap();
        assert_eq!(line["error"]["code"], 11);
        let refused = refusal(&Status::unauthenticated("etcdserver: invalid auth token"));
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(
            refused.headers()[header::WWW_AUTHENTICATE],
            "etcdserver: invalid auth token"
        );
    }
}
