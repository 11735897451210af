//! The response to a request that has published.

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response};
use serde::Serialize;

use crate::service::body::ResponseBody;
use crate::service::request_info;
use crate::source::publishing::Receipt;

/// The result of one message, as the client gets it.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ReceiptJson<'a> {
    Receivers(u64),
    Id(&'a str),
    // Refused ones are no response of this kind.
}

/// The note for channels that no events route has.
const NOTE: &str = "no events route has this channel";

/// Builds the response: JSON, or a line for each receipt if the client accepts only text. `notes` are the
/// receipts of channels without an events route. `None` if a message was refused.
pub(super) fn response(
    headers: &HeaderMap,
    receipts: &[Receipt],
    is_list: bool,
    is_unfollowed: impl Fn(usize) -> bool,
) -> Option<Response<ResponseBody>> {
    let is_text = request_info::accepts(headers, "text/plain")
        && !request_info::accepts(headers, "application/json");
    let mut items = Vec::with_capacity(receipts.len());
    for (index, receipt) in receipts.iter().enumerate() {
        let note = is_unfollowed(index).then_some(NOTE);
        items.push(match (receipt, is_text) {
            (Receipt::Refused(_), _) => return None,
            (Receipt::Receivers(receivers), true) => format!("{receivers}\n"),
            (Receipt::Entry(id), true) => format!("{id}\n"),
            (Receipt::Receivers(receivers), false) => {
                json(&ReceiptJson::Receivers(*receivers), note)
            }
            (Receipt::Entry(id), false) => json(&ReceiptJson::Id(id), note),
        });
    }
    let (kind, body) = match (is_text, is_list) {
        (true, _) => ("text/plain; charset=utf-8", items.concat()),
        (false, true) => ("application/json", format!("[{}]\n", items.join(","))),
        (false, false) => ("application/json", format!("{}\n", items.concat())),
    };
    let mut response = Response::new(ResponseBody::bytes(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Some(response)
}

fn json(receipt: &ReceiptJson<'_>, note: Option<&str>) -> String {
    #[derive(Serialize)]
    struct NotedReceipt<'a> {
        #[serde(flatten)]
        receipt: &'a ReceiptJson<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        note: Option<&'a str>,
    }
    serde_json::to_string(&NotedReceipt { receipt, note }).expect("numbers and strings are JSON")
}
