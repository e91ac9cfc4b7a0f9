//! What each request on the control socket does.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use huntaway_ledger::{Sanitize, VdiOptions};
use huntaway_store::DiskState;
use hyper::body::Body;
use hyper::header::CONTENT_TYPE;
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::cluster_routes;
use super::protocol::{
    DiskStatus, Failure, LunOfVdi, MAX_BODY_BYTES, NAME_HEADER, NewSize, NewVdi, PlanAnswer, PortalStatus,
    SanitizeStatus, SessionStatus, Status, VdiStatus,
};
use crate::node::{
    DEFAULT_BLOCK_SIZE_BYTES, DEFAULT_PHYSICAL_BLOCK_SIZE_BYTES, Engine, MappedVdi, OperationError, Planned,
    ReloadError, Storage,
};

/// Time in which a request's body has to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// What a configuration is called if the client does not say.
const NAMELESS: &str = "the configuration";

/// An answer that is an error.
pub(super) struct Refusal {
    status: StatusCode,
    pub(super) report: String,
}

pub(super) type Answer = Result<Response<Full<Bytes>>, Refusal>;

/// What the node says until it serves.
const STARTING: &str =
    "the node is starting: it makes what its configuration asks for; ask again when it serves";

/// Answers one request; without an engine, that it is to come. What it begins goes on if the client goes away.
pub(super) async fn answer<B>(
    engine: Option<Arc<Engine>>,
    storage: Arc<Storage>,
    request: Request<B>,
) -> Response<Full<Bytes>>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    let answered = match body_text(body).await {
        Ok(body) => {
            let work = async move {
                let path = head.uri.path();
                if cluster_routes::are_of(path) {
                    return cluster_routes::route(engine.as_deref(), &storage, &head.method, path, &body)
                        .await;
                }
                let engine = engine.ok_or_else(|| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, STARTING))?;
                let named = head.headers.get(NAME_HEADER).and_then(|name| name.to_str().ok());
                route(&engine, &head.method, path, named.unwrap_or(NAMELESS).to_owned(), body).await
            };
            match tokio::spawn(work).await {
                Ok(answered) => answered,
                Err(_) => Err(Refusal::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the node failed on this request: see its log",
                )),
            }
        }
        Err(refusal) => Err(refusal),
    };
    answered.unwrap_or_else(|Refusal { status, report }| {
        json(status, &Failure { report }).unwrap_or_else(|_| Response::new(Full::default()))
    })
}

async fn route(engine: &Engine, method: &Method, path: &str, name: String, body: String) -> Answer {
    let words: Vec<&str> = path.split('/').skip(1).collect();
    match (method.as_str(), &*words) {
        ("GET", ["v1", "status"]) => json(StatusCode::OK, &status(engine)),
        ("GET", ["v1", "vdis"]) => {
            let vdis: Vec<VdiStatus> = engine.vdis().iter().map(vdi_status).collect();
            json(StatusCode::OK, &vdis)
        }
        ("GET", ["v1", "vdis", vdi]) => json(StatusCode::OK, &vdi_status(&engine.vdi(vdi)?)),
        ("POST", ["v1", "vdis"]) => {
            let new: NewVdi = parse(&body)?;
            let made = engine.create_vdi(&new.name, options(&new)).await?;
            json(StatusCode::CREATED, &vdi_status(&made))
        }
        ("PATCH", ["v1", "vdis", vdi]) => {
            let NewSize { size_bytes, allow_shrink } = parse(&body)?;
            let resized = engine.resize_vdi(vdi, size_bytes, allow_shrink).await?;
            json(StatusCode::OK, &vdi_status(&resized))
        }
        ("DELETE", ["v1", "vdis", vdi]) => {
            engine.delete_vdi(vdi).await?;
            json(StatusCode::OK, &serde_json::json!({}))
        }
        ("POST", ["v1", "plan"]) => json(StatusCode::OK, &plan_answer(&engine.plan_for(name, body).await?)),
        ("POST", ["v1", "reload"]) => json(StatusCode::OK, &plan_answer(&engine.reload().await?)),
        _ => Err(Refusal::unknown(method, path)),
    }
}

async fn body_text<B>(body: B) -> Result<String, Refusal>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let bad = |reason: &str| Refusal::new(StatusCode::BAD_REQUEST, reason);
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY_BYTES).collect());
    let collected = collected.await.map_err(|_| {
        Refusal::new(StatusCode::REQUEST_TIMEOUT, "the request did not arrive within 10 seconds")
    })?;
    let bytes = collected
        .map_err(|error| {
            let report = format!("the request cannot be read (at most {MAX_BODY_BYTES} bytes are): {error}");
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, &report)
        })?
        .to_bytes();
    String::from_utf8(bytes.into()).map_err(|_| bad("the request is not text: save it as UTF-8"))
}

pub(super) fn parse<T: DeserializeOwned>(body: &str) -> Result<T, Refusal> {
    serde_json::from_str(body).map_err(|error| {
        Refusal::new(StatusCode::BAD_REQUEST, &format!("the request does not say what is asked for: {error}"))
    })
}

pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    let text = serde_json::to_string(value)
        .map_err(|error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()))?;
    let mut response = Response::new(Full::new(Bytes::from(text + "\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    Ok(response)
}

impl Refusal {
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn report(&self) -> &str {
        &self.report
    }

    pub(super) fn unknown(method: &Method, path: &str) -> Self {
        let report =
            format!("nothing answers {method} {path} here: is the node of another version than the client?");
        Self::new(StatusCode::NOT_FOUND, &report)
    }

    pub(super) fn new(status: StatusCode, report: &str) -> Self {
        Self { status, report: report.to_owned() }
    }
}

impl From<OperationError> for Refusal {
    fn from(error: OperationError) -> Self {
        let status = match error {
            OperationError::Unknown(_) => StatusCode::NOT_FOUND,
            OperationError::Invalid(_) => StatusCode::BAD_REQUEST,
            OperationError::Conflict(_) => StatusCode::CONFLICT,
            OperationError::Failed(_) | OperationError::NotShown(_) => StatusCode::INTERNAL_SERVER_ERROR,
            OperationError::Stopping(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, &crate::in_full(&error))
    }
}

impl From<ReloadError> for Refusal {
    fn from(error: ReloadError) -> Self {
        let status = match error {
            ReloadError::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
            ReloadError::Interrupted(_) => StatusCode::INTERNAL_SERVER_ERROR,
            ReloadError::Stopping(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, &error.to_string())
    }
}

fn options(new: &NewVdi) -> VdiOptions {
    let block_size = new.block_size.unwrap_or(DEFAULT_BLOCK_SIZE_BYTES);
    let physical = new.physical_block_size;
    VdiOptions {
        size_bytes: new.size_bytes,
        block_size,
        physical_block_size: physical.unwrap_or(DEFAULT_PHYSICAL_BLOCK_SIZE_BYTES.max(block_size)),
        thin: new.thin.unwrap_or(true),
    }
}

fn plan_answer(Planned { plan, warnings, .. }: &Planned) -> PlanAnswer {
    PlanAnswer { text: plan.to_string(), changes: plan.len(), warnings: warnings.clone() }
}

fn vdi_status(MappedVdi { vdi, mappings }: &MappedVdi) -> VdiStatus {
    VdiStatus {
        name: vdi.name.as_str().to_owned(),
        uuid: vdi.uuid.iter().map(|byte| format!("{byte:02x}")).collect(),
        size_bytes: vdi.size_bytes,
        block_size: vdi.block_size,
        physical_block_size: vdi.physical_block_size,
        thin: vdi.thin,
        provisioned: vdi.provisioned,
        growing_to_bytes: vdi.growing_to_bytes,
        sanitize: vdi.sanitize.map(|sanitize| match sanitize {
            Sanitize::Running { .. } => SanitizeStatus::Running,
            Sanitize::Failed { .. } => SanitizeStatus::Failed,
        }),
        luns: mappings.iter().map(|at| LunOfVdi { target: at.target.clone(), lun: at.lun }).collect(),
    }
}

pub(super) fn disk_status(disk: huntaway_store::DiskStatus) -> DiskStatus {
    DiskStatus {
        directory: disk.directory.display().to_string(),
        state: match &disk.state {
            DiskState::Failed => "failed".into(),
            DiskState::Absent { reason } => format!("absent: {reason}"),
            DiskState::Serving if disk.leaves && disk.partitions == 0 => "empty".into(),
            DiskState::Serving if disk.leaves => "leaving".into(),
            DiskState::Serving if disk.fills => "filling".into(),
            DiskState::Serving => "serving".into(),
        },
        partitions: disk.partitions,
        moving: if disk.leaves { disk.partitions } else { disk.moving },
        free_bytes: disk.free_bytes,
        total_bytes: disk.total_bytes,
    }
}

fn status(engine: &Engine) -> Status {
    let loaded = engine.served();
    let config = &loaded.config;
    let portal =
        |(name, address): (String, std::net::SocketAddr)| PortalStatus { name, address: address.to_string() };
    let session = |session: &huntaway_gateway::SessionInfo| SessionStatus {
        initiator: session.initiator.clone(),
        target: session.target.clone(),
    };
    Status {
        version: env!("CARGO_PKG_VERSION").into(),
        node: config.node.name.value.clone(),
        cluster: config.cluster.name.value.clone(),
        config: engine.file().display().to_string(),
        portals: engine.gateway().portals().into_iter().map(portal).collect(),
        targets: config.targets.iter().map(|target| target.iqn.value.clone()).collect(),
        sessions: engine.gateway().sessions().iter().map(session).collect(),
        disks: engine.disks().into_iter().map(disk_status).collect(),
    }
}

#[cfg(test)]
mod tests {
    use huntaway_store::DiskDirectory;

    use super::*;
    use crate::node::StorageOptions;

    #[tokio::test]
    async fn whoever_asks_before_the_node_serves_is_told_so() {
        let scratch = tempfile::tempdir().unwrap();
        let name = huntaway_ledger::Name::new("a").unwrap();
        let options = StorageOptions {
            state: scratch.path().join("state"),
            disks: vec![DiskDirectory { path: scratch.path().join("disk"), weight: Some(1) }],
            cluster: name.clone(),
            node: name.clone(),
            zone: name,
            open_objects: 16,
            make: true,
        };
        let storage = Arc::new(Storage::open(options, &prometheus::Registry::new()).unwrap());
        let asked = async |path: &str| {
            let request = Request::get(path).body(Full::<Bytes>::default()).unwrap();
            let answer = answer(None, Arc::clone(&storage), request).await;
            let status = answer.status();
            let text = answer.into_body().collect().await.unwrap().to_bytes();
            (status, String::from_utf8_lossy(&text).into_owned())
        };
        let (status, text) = asked("/v1/status").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text.contains("starting"));
        let (status, text) = asked("/v1/cluster").await;
        assert_eq!(status, StatusCode::OK, "what the ledger says is known: {text}");
        assert!(text.contains(r#""health":"ok""#), "{text}");
        storage.close().unwrap();
    }

    #[tokio::test]
    async fn a_request_that_is_too_long_or_no_text_is_refused() {
        let status = |body: Vec<u8>| async {
            body_text(Full::new(Bytes::from(body))).await.map_err(|refusal| refusal.status)
        };
        assert_eq!(status(vec![b'a'; 5]).await, Ok("aaaaa".to_owned()));
        assert_eq!(status(vec![b'a'; MAX_BODY_BYTES + 1]).await, Err(StatusCode::PAYLOAD_TOO_LARGE));
        assert_eq!(status(vec![0xff]).await, Err(StatusCode::BAD_REQUEST));
    }

    #[test]
    fn what_is_not_known_of_a_new_vdi_has_its_default_and_other_keys_are_refused() {
        let new = parse::<NewVdi>(r#"{"name": "a", "size_bytes": 1048576, "block_size": 4096}"#);
        let made = options(&new.ok().unwrap());
        assert_eq!((made.block_size, made.physical_block_size, made.thin), (4096, 4096, true));
        let refused = parse::<NewVdi>(r#"{"name": "a", "size_bytes": 1048576, "colour": "blue"}"#);
        assert!(refused.is_err_and(|refusal| refusal.report.contains("colour")));
    }
}
