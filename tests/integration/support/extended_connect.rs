//! WebSockets over HTTP/2.

use bytes::Bytes;

use super::{Gateway, SOON, Via, eventually, within};

/// Opens `/chat?room=1` with an extended CONNECT (RFC 8441) and these header fields, on a connection of its own
/// over TLS. Returns the response and what sends to the backend.
pub(crate) async fn extended_connect(
    gateway: &Gateway,
    protocol: &'static str,
    fields: &[(&'static str, &str)],
) -> (http::Response<h2::RecvStream>, h2::SendStream<Bytes>) {
    let to = gateway.address_for(Via::Http2);
    let (requests, connection) = h2::client::handshake(Via::Http2.connect(to).await).await.unwrap();
    tokio::spawn(connection);
    let mut requests = within(SOON, "a connection", requests.ready()).await.unwrap();
    let allowed = async || requests.is_extended_connect_protocol_enabled();
    eventually(SOON, "SETTINGS_ENABLE_CONNECT_PROTOCOL", allowed).await;
    let request = http::Request::builder()
        .method("CONNECT")
        .uri("https://app.example/chat?room=1")
        .extension(h2::ext::Protocol::from_static(protocol))
        .header("sec-websocket-version", "13");
    let request =
        fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let (response, stream) = requests.send_request(request.body(()).unwrap(), false).unwrap();
    (within(SOON, "a response", response).await.unwrap(), stream)
}
