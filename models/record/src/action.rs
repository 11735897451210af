//! What can happen next.

use ssegate_record::AppendKind;

/// One step of the world. A gateway is named by its number, a request by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The application publishes the next message.
    Publish,
    /// The same at the old node, which does not know yet that the slot of the channel has moved.
    PublishOld,
    /// The slot moves: from now on marks and messages are sent by another node, to the subscribers there.
    Move,
    /// The old node learns of it, too.
    EndMove,
    /// The gateway publishes a mark.
    Mark(u8),
    /// The gateway reads what was sent to it next.
    Read(u8),
    /// The gateway starts or reconnects, and its subscription is confirmed.
    Connect(u8),
    /// The same at the old node, which still accepts it.
    ConnectOld(u8),
    /// Its connections are lost, with what it has not read. A request that is on its way may still arrive.
    Break(u8),
    /// Its process ends.
    End(u8),
    /// It drops what is not in the log yet, for lack of memory.
    Overflow(u8),
    /// The gateway sends a request.
    Request(u8, AppendKind),
    /// The same with a gap, although another gateway could still append what is missing: it is too slow.
    Hurry(u8),
    /// Redis executes the request, and the gateway receives the reply.
    Execute(usize),
    /// Redis executes the request, and the reply is lost with the connection for commands.
    ExecuteUnseen(usize),
    /// The request is lost on its way, and the gateway knows it.
    Drop(usize),
    /// Redis restarts with this many entries of its log and without marks, and its clock has gone back. All
    /// connections are lost.
    Restore(usize),
    /// The same, but nobody notices, and its clock goes on: a key was deleted.
    Forget(usize),
}
