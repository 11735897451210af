//! The check itself: exhaustive within bounds that take seconds to minutes.

mod check;

use ssegate_record_model::Bounds;

use check::{CALM, holds};

#[test]
fn nothing_goes_wrong() {
    holds(CALM);
    holds(Bounds { gateways: 3, marks: 3, messages: 1, asks: 0, ..CALM });
}

#[test]
fn a_gateway_ends_and_another_one_comes_late() {
    holds(Bounds { marks: 3, asks: 0, ends: 1, ..CALM });
}

#[test]
fn a_connection_breaks() {
    holds(Bounds { messages: 1, marks: 3, asks: 0, breaks: 1, ..CALM });
    holds(Bounds { asks: 0, breaks: 1, ..CALM });
}

#[test]
fn all_others_are_too_slow() {
    holds(Bounds { hurries: 1, ..CALM });
}

#[test]
fn a_request_or_its_answer_is_lost() {
    holds(Bounds { unseen: 1, ..CALM });
}

#[test]
fn one_gateway_alone_goes_through_everything() {
    let one = Bounds { gateways: 1, ..CALM };
    holds(Bounds { messages: 3, marks: 2, ends: 1, unseen: 1, ..one });
    holds(Bounds { breaks: 1, unseen: 1, ..one });
    holds(Bounds { asks: 2, restores: 1, ..one });
    holds(Bounds { asks: 2, forgets: 1, ..one });
    holds(Bounds { asks: 2, messages: 3, overflows: 1, ..one });
}

#[test]
fn redis_comes_back_without_what_it_wrote_last() {
    holds(Bounds { messages: 1, marks: 3, asks: 0, restores: 1, ..CALM });
}

#[test]
fn redis_loses_what_it_wrote_and_nobody_notices() {
    holds(Bounds { messages: 1, forgets: 1, ..CALM });
}

#[test]
fn a_slot_moves() {
    holds(Bounds { asks: 0, is_moving: true, ..CALM });
    holds(Bounds { messages: 1, asks: 0, is_moving: true, ..CALM });
    holds(Bounds { gateways: 1, messages: 3, marks: 3, is_moving: true, unseen: 1, ..CALM });
}
