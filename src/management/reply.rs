//! Answers and refusals. Every body is JSON, errors included: `{"error": ..., "reason": ...}`.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value as Json, json};

use super::list::Items;
use crate::broker::access::AdministerError;
use crate::broker::operate::Change;

/// What a handler answers.
pub(super) enum Reply {
    /// A whole document.
    Document(Json),
    /// A list, still to be sorted, paged and projected as the query asks.
    List(Items),
    /// 503 with a document: a health check that failed.
    Unhealthy(Json),
    /// 201: it was not there before.
    Created,
    /// 204.
    Done,
}

impl Reply {
    /// A list of what is there.
    pub(super) fn list(items: impl IntoIterator<Item = Json>) -> Self {
        Self::List(Items::Made(items.into_iter().collect()))
    }
}

impl From<Change> for Reply {
    fn from(change: Change) -> Self {
        match change {
            Change::Created => Self::Created,
            Change::Replaced => Self::Done,
        }
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) error: &'static str,
    pub(super) reason: String,
    /// Ask the client to log in.
    pub(super) login: bool,
    /// When it may ask again.
    retry_after_s: Option<u64>,
}

impl Refusal {
    fn new(status: StatusCode, error: &'static str, reason: impl Into<String>) -> Self {
        Self { status, error, reason: reason.into(), login: false, retry_after_s: None }
    }

    /// Nothing is there, or nothing that this user may know of.
    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Object Not Found", "Not Found")
    }

    /// The request makes no sense.
    pub(super) fn bad_request(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", reason)
    }

    /// 400 with another error than `bad_request`.
    pub(super) fn invalid(error: &'static str, reason: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, reason)
    }

    /// No login, or a wrong one.
    pub(super) fn not_authenticated(reason: &str) -> Self {
        let refusal = Self::new(StatusCode::UNAUTHORIZED, "not_authorized", reason);
        Self { login: true, ..refusal }
    }

    /// Logged in, but not entitled. 401 rather than 403, as in RabbitMQ.
    pub(super) fn not_authorised(reason: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "not_authorised", reason)
    }

    /// Too many logins from there have failed, and too many wait already.
    pub(super) fn too_many_logins(retry_after_s: u64) -> Self {
        let reason = "too many logins from this address have failed";
        let refusal = Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", reason);
        Self { retry_after_s: Some(retry_after_s), ..refusal }
    }

    /// The route is there, the method is not.
    pub(super) fn method_not_allowed() -> Self {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Self::new(status, "method_not_allowed", "Method Not Allowed")
    }

    /// The body is larger than is allowed.
    pub(super) fn too_large() -> Self {
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        Self::new(status, "payload_too_large", "the request body is too large")
    }

    /// The answer could not be made.
    pub(super) fn internal() -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self::new(status, "internal_server_error", "the answer could not be made")
    }
}

impl From<AdministerError> for Refusal {
    fn from(error: AdministerError) -> Self {
        match error {
            AdministerError::Access(error) => Self::bad_request(error.to_string()),
            AdministerError::Store(_) => Self::internal(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({"error": self.error, "reason": self.reason});
        let mut response = document(self.status, &body);
        if self.login {
            let realm = HeaderValue::from_static("Basic realm=\"RabbitMQ Management\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, realm);
        }
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// A JSON document as a response.
pub(super) fn document(status: StatusCode, body: &Json) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding, origin"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}
