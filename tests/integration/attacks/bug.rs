//! A bug of our own: row 34 of the fault matrix.

use super::Scene;
use super::table::{judge, mib};
use crate::support::{Http2, Redis, Request, Via};

/// A build for tests panics where it is told to.
#[tokio::test]
async fn a_panic_costs_its_own_request_and_no_other() {
    if !cfg!(debug_assertions) {
        return;
    }
    let scene =
        Scene::with(Redis::start().await, |builder| builder.env("SSEGATE_PANIC_AT", "/events/bug"))
            .await;
    let (answers, toll) = scene
        .crowd
        .under(async {
            let mut answers = Vec::new();
            for via in Via::ALL {
                let bug = Request::get("/events/bug");
                if via.is_http2() {
                    // Its neighbours on the same connection live.
                    let connection = Http2::connect(via, scene.gateway.address_for(via)).await;
                    let mut beside =
                        connection.send(Request::events("/events/beside")).await.stream();
                    beside.ready().await;
                    answers.push(connection.send(bug).await.status);
                    scene.redis.publish("beside", "still here").await;
                    assert_eq!(beside.next_event().await.data, "still here");
                    assert_eq!(connection.send(Request::get("/site")).await.status, 200);
                } else {
                    answers.push(scene.gateway.send(via, bug).await.status);
                }
            }
            answers
        })
        .await;
    assert_eq!(answers, [500; 4]);
    let counted = scene.count("ssegate_panics_total", "").await;
    let bounds = [("panics counted", 4.0, counted), ("MiB", 4.0, mib(toll.resident))];
    judge("4 panics", &toll, &bounds);
    assert_eq!(counted, 4.0);
}
