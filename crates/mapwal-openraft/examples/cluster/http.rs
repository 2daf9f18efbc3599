//! Calls over HTTP, with JSON.

use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum CallError {
    /// Nobody was reached: nothing was done.
    NotSent(io::Error),
    /// The request was sent. It may have been carried out, or may be later.
    Lost(io::Error),
}

impl From<CallError> for io::Error {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NotSent(error) | CallError::Lost(error) => error,
        }
    }
}

/// One side of a connection, which is kept from call to call.
pub(crate) struct Caller {
    address: String,
    /// The node that calls: a line before all else says so to the proxy.
    from: Option<u64>,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Caller {
    /// Calls a node directly.
    pub(crate) fn new(address: String) -> Self {
        Self { address, from: None, sender: None }
    }

    /// Calls through the proxy of a link.
    pub(crate) fn through_proxy(address: String, from: u64) -> Self {
        Self { address, from: Some(from), sender: None }
    }

    /// Sends `request`, and waits for the answer, for `limit` at most.
    pub(crate) async fn call<A: DeserializeOwned>(
        &mut self,
        path: &str,
        request: &impl Serialize,
        limit: Duration,
    ) -> Result<A, CallError> {
        let body = serde_json::to_vec(request).map_err(|error| CallError::NotSent(error.into()))?;
        // On an error, and if this is dropped, the connection is not used again.
        let mut sender =
            timeout(limit, self.connect()).await.unwrap_or_else(|_| Err(late())).map_err(CallError::NotSent)?;
        let exchange = timeout(limit, exchange(&mut sender, path, body)).await;
        let bytes = exchange.unwrap_or_else(|_| Err(late())).map_err(CallError::Lost)?;
        let answer = serde_json::from_slice(&bytes).map_err(|error| CallError::Lost(error.into()))?;
        self.sender = Some(sender);
        Ok(answer)
    }

    async fn connect(&mut self) -> io::Result<SendRequest<Full<Bytes>>> {
        if let Some(mut kept) = self.sender.take()
            && kept.ready().await.is_ok()
        {
            return Ok(kept);
        }
        let mut stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        if let Some(from) = self.from {
            stream.write_u64_le(from).await?;
        }
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

fn late() -> io::Error {
    io::ErrorKind::TimedOut.into()
}

async fn exchange(sender: &mut SendRequest<Full<Bytes>>, path: &str, body: Vec<u8>) -> io::Result<Bytes> {
    let request = Request::post(path).header("host", "node").body(Full::from(body)).map_err(io::Error::other)?;
    let response = sender.send_request(request).await.map_err(io::Error::other)?;
    if response.status() != StatusCode::OK {
        return Err(io::Error::other(format!("{path}: {}", response.status())));
    }
    let body = response.into_body().collect().await.map_err(io::Error::other)?;
    Ok(body.to_bytes())
}

/// Answers each request that comes: `answer` is given its path and body, and returns the body of the answer.
pub(crate) async fn serve<A, F>(listener: TcpListener, answer: A) -> io::Result<()>
where
    A: Fn(String, Bytes) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = io::Result<Vec<u8>>> + Send + 'static,
{
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let answer = answer.clone();
        let service = service_fn(move |request: Request<Incoming>| respond(request, answer.clone()));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn respond<A, F>(request: Request<Incoming>, answer: A) -> Result<Response<Full<Bytes>>, hyper::Error>
where
    A: Fn(String, Bytes) -> F,
    F: Future<Output = io::Result<Vec<u8>>>,
{
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    let mut response = Response::default();
    match answer(path, body).await {
        Ok(body) => *response.body_mut() = Full::from(body),
        Err(error) => {
            *response.status_mut() = StatusCode::BAD_REQUEST;
            *response.body_mut() = Full::from(error.to_string());
        }
    }
    Ok(response)
}
