//! [`Method`]: any method of any class.
//!
//! Generated from `spec/amqp-0-9-1.toml` by `tests/it/codegen.rs`; do not edit.
//! `UPDATE_SPEC=1 cargo test codegen` writes it anew.

use super::{MethodError, access, basic, channel, confirm, connection, exchange, queue, tx};

/// A method with its arguments, borrowed from the payload it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method<'a> {
    /// connection.start
    ConnectionStart(connection::Start<'a>),
    /// connection.start-ok
    ConnectionStartOk(connection::StartOk<'a>),
    /// connection.secure
    ConnectionSecure(connection::Secure<'a>),
    /// connection.secure-ok
    ConnectionSecureOk(connection::SecureOk<'a>),
    /// connection.tune
    ConnectionTune(connection::Tune),
    /// connection.tune-ok
    ConnectionTuneOk(connection::TuneOk),
    /// connection.open
    ConnectionOpen(connection::Open<'a>),
    /// connection.open-ok
    ConnectionOpenOk(connection::OpenOk),
    /// connection.close
    ConnectionClose(connection::Close<'a>),
    /// connection.close-ok
    ConnectionCloseOk(connection::CloseOk),
    /// connection.blocked
    ConnectionBlocked(connection::Blocked<'a>),
    /// connection.unblocked
    ConnectionUnblocked(connection::Unblocked),
    /// connection.update-secret
    ConnectionUpdateSecret(connection::UpdateSecret<'a>),
    /// connection.update-secret-ok
    ConnectionUpdateSecretOk(connection::UpdateSecretOk),
    /// channel.open
    ChannelOpen(channel::Open),
    /// channel.open-ok
    ChannelOpenOk(channel::OpenOk),
    /// channel.flow
    ChannelFlow(channel::Flow),
    /// channel.flow-ok
    ChannelFlowOk(channel::FlowOk),
    /// channel.close
    ChannelClose(channel::Close<'a>),
    /// channel.close-ok
    ChannelCloseOk(channel::CloseOk),
    /// access.request
    AccessRequest(access::Request<'a>),
    /// access.request-ok
    AccessRequestOk(access::RequestOk),
    /// exchange.declare
    ExchangeDeclare(exchange::Declare<'a>),
    /// exchange.declare-ok
    ExchangeDeclareOk(exchange::DeclareOk),
    /// exchange.delete
    ExchangeDelete(exchange::Delete<'a>),
    /// exchange.delete-ok
    ExchangeDeleteOk(exchange::DeleteOk),
    /// exchange.bind
    ExchangeBind(exchange::Bind<'a>),
    /// exchange.bind-ok
    ExchangeBindOk(exchange::BindOk),
    /// exchange.unbind
    ExchangeUnbind(exchange::Unbind<'a>),
    /// exchange.unbind-ok
    ExchangeUnbindOk(exchange::UnbindOk),
    /// queue.declare
    QueueDeclare(queue::Declare<'a>),
    /// queue.declare-ok
    QueueDeclareOk(queue::DeclareOk<'a>),
    /// queue.bind
    QueueBind(queue::Bind<'a>),
    /// queue.bind-ok
    QueueBindOk(queue::BindOk),
    /// queue.purge
    QueuePurge(queue::Purge<'a>),
    /// queue.purge-ok
    QueuePurgeOk(queue::PurgeOk),
    /// queue.delete
    QueueDelete(queue::Delete<'a>),
    /// queue.delete-ok
    QueueDeleteOk(queue::DeleteOk),
    /// queue.unbind
    QueueUnbind(queue::Unbind<'a>),
    /// queue.unbind-ok
    QueueUnbindOk(queue::UnbindOk),
    /// basic.qos
    BasicQos(basic::Qos),
    /// basic.qos-ok
    BasicQosOk(basic::QosOk),
    /// basic.consume
    BasicConsume(basic::Consume<'a>),
    /// basic.consume-ok
    BasicConsumeOk(basic::ConsumeOk<'a>),
    /// basic.cancel
    BasicCancel(basic::Cancel<'a>),
    /// basic.cancel-ok
    BasicCancelOk(basic::CancelOk<'a>),
    /// basic.publish
    BasicPublish(basic::Publish<'a>),
    /// basic.return
    BasicReturn(basic::Return<'a>),
    /// basic.deliver
    BasicDeliver(basic::Deliver<'a>),
    /// basic.get
    BasicGet(basic::Get<'a>),
    /// basic.get-ok
    BasicGetOk(basic::GetOk<'a>),
    /// basic.get-empty
    BasicGetEmpty(basic::GetEmpty),
    /// basic.ack
    BasicAck(basic::Ack),
    /// basic.reject
    BasicReject(basic::Reject),
    /// basic.recover-async
    BasicRecoverAsync(basic::RecoverAsync),
    /// basic.recover
    BasicRecover(basic::Recover),
    /// basic.recover-ok
    BasicRecoverOk(basic::RecoverOk),
    /// basic.nack
    BasicNack(basic::Nack),
    /// confirm.select
    ConfirmSelect(confirm::Select),
    /// confirm.select-ok
    ConfirmSelectOk(confirm::SelectOk),
    /// tx.select
    TxSelect(tx::Select),
    /// tx.select-ok
    TxSelectOk(tx::SelectOk),
    /// tx.commit
    TxCommit(tx::Commit),
    /// tx.commit-ok
    TxCommitOk(tx::CommitOk),
    /// tx.rollback
    TxRollback(tx::Rollback),
    /// tx.rollback-ok
    TxRollbackOk(tx::RollbackOk),
}

impl<'a> Method<'a> {
    /// Reads the payload of a method frame.
    ///
    /// # Errors
    /// When the ids are missing or unknown, or the arguments are malformed.
    pub fn decode(payload: &'a [u8]) -> Result<Self, MethodError> {
        let Some((ids, fields)) = payload.split_first_chunk::<4>() else {
            return Err(MethodError::NoMethod);
        };
        let [c0, c1, m0, m1] = *ids;
        let id = (u16::from_be_bytes([c0, c1]), u16::from_be_bytes([m0, m1]));
        match id {
            (10, 10) => connection::Start::decode(fields).map(Self::ConnectionStart),
            (10, 11) => connection::StartOk::decode(fields).map(Self::ConnectionStartOk),
            (10, 20) => connection::Secure::decode(fields).map(Self::ConnectionSecure),
            (10, 21) => connection::SecureOk::decode(fields).map(Self::ConnectionSecureOk),
            (10, 30) => connection::Tune::decode(fields).map(Self::ConnectionTune),
            (10, 31) => connection::TuneOk::decode(fields).map(Self::ConnectionTuneOk),
            (10, 40) => connection::Open::decode(fields).map(Self::ConnectionOpen),
            (10, 41) => connection::OpenOk::decode(fields).map(Self::ConnectionOpenOk),
            (10, 50) => connection::Close::decode(fields).map(Self::ConnectionClose),
            (10, 51) => connection::CloseOk::decode(fields).map(Self::ConnectionCloseOk),
            (10, 60) => connection::Blocked::decode(fields).map(Self::ConnectionBlocked),
            (10, 61) => connection::Unblocked::decode(fields).map(Self::ConnectionUnblocked),
            (10, 70) => connection::UpdateSecret::decode(fields).map(Self::ConnectionUpdateSecret),
            (10, 71) => {
                connection::UpdateSecretOk::decode(fields).map(Self::ConnectionUpdateSecretOk)
            }
            (20, 10) => channel::Open::decode(fields).map(Self::ChannelOpen),
            (20, 11) => channel::OpenOk::decode(fields).map(Self::ChannelOpenOk),
            (20, 20) => channel::Flow::decode(fields).map(Self::ChannelFlow),
            (20, 21) => channel::FlowOk::decode(fields).map(Self::ChannelFlowOk),
            (20, 40) => channel::Close::decode(fields).map(Self::ChannelClose),
            (20, 41) => channel::CloseOk::decode(fields).map(Self::ChannelCloseOk),
            (30, 10) => access::Request::decode(fields).map(Self::AccessRequest),
            (30, 11) => access::RequestOk::decode(fields).map(Self::AccessRequestOk),
            (40, 10) => exchange::Declare::decode(fields).map(Self::ExchangeDeclare),
            (40, 11) => exchange::DeclareOk::decode(fields).map(Self::ExchangeDeclareOk),
            (40, 20) => exchange::Delete::decode(fields).map(Self::ExchangeDelete),
            (40, 21) => exchange::DeleteOk::decode(fields).map(Self::ExchangeDeleteOk),
            (40, 30) => exchange::Bind::decode(fields).map(Self::ExchangeBind),
            (40, 31) => exchange::BindOk::decode(fields).map(Self::ExchangeBindOk),
            (40, 40) => exchange::Unbind::decode(fields).map(Self::ExchangeUnbind),
            (40, 51) => exchange::UnbindOk::decode(fields).map(Self::ExchangeUnbindOk),
            (50, 10) => queue::Declare::decode(fields).map(Self::QueueDeclare),
            (50, 11) => queue::DeclareOk::decode(fields).map(Self::QueueDeclareOk),
            (50, 20) => queue::Bind::decode(fields).map(Self::QueueBind),
            (50, 21) => queue::BindOk::decode(fields).map(Self::QueueBindOk),
            (50, 30) => queue::Purge::decode(fields).map(Self::QueuePurge),
            (50, 31) => queue::PurgeOk::decode(fields).map(Self::QueuePurgeOk),
            (50, 40) => queue::Delete::decode(fields).map(Self::QueueDelete),
            (50, 41) => queue::DeleteOk::decode(fields).map(Self::QueueDeleteOk),
            (50, 50) => queue::Unbind::decode(fields).map(Self::QueueUnbind),
            (50, 51) => queue::UnbindOk::decode(fields).map(Self::QueueUnbindOk),
            (60, 10) => basic::Qos::decode(fields).map(Self::BasicQos),
            (60, 11) => basic::QosOk::decode(fields).map(Self::BasicQosOk),
            (60, 20) => basic::Consume::decode(fields).map(Self::BasicConsume),
            (60, 21) => basic::ConsumeOk::decode(fields).map(Self::BasicConsumeOk),
            (60, 30) => basic::Cancel::decode(fields).map(Self::BasicCancel),
            (60, 31) => basic::CancelOk::decode(fields).map(Self::BasicCancelOk),
            (60, 40) => basic::Publish::decode(fields).map(Self::BasicPublish),
            (60, 50) => basic::Return::decode(fields).map(Self::BasicReturn),
            (60, 60) => basic::Deliver::decode(fields).map(Self::BasicDeliver),
            (60, 70) => basic::Get::decode(fields).map(Self::BasicGet),
            (60, 71) => basic::GetOk::decode(fields).map(Self::BasicGetOk),
            (60, 72) => basic::GetEmpty::decode(fields).map(Self::BasicGetEmpty),
            (60, 80) => basic::Ack::decode(fields).map(Self::BasicAck),
            (60, 90) => basic::Reject::decode(fields).map(Self::BasicReject),
            (60, 100) => basic::RecoverAsync::decode(fields).map(Self::BasicRecoverAsync),
            (60, 110) => basic::Recover::decode(fields).map(Self::BasicRecover),
            (60, 111) => basic::RecoverOk::decode(fields).map(Self::BasicRecoverOk),
            (60, 120) => basic::Nack::decode(fields).map(Self::BasicNack),
            (85, 10) => confirm::Select::decode(fields).map(Self::ConfirmSelect),
            (85, 11) => confirm::SelectOk::decode(fields).map(Self::ConfirmSelectOk),
            (90, 10) => tx::Select::decode(fields).map(Self::TxSelect),
            (90, 11) => tx::SelectOk::decode(fields).map(Self::TxSelectOk),
            (90, 20) => tx::Commit::decode(fields).map(Self::TxCommit),
            (90, 21) => tx::CommitOk::decode(fields).map(Self::TxCommitOk),
            (90, 30) => tx::Rollback::decode(fields).map(Self::TxRollback),
            (90, 31) => tx::RollbackOk::decode(fields).map(Self::TxRollbackOk),
            (class, method) => return Err(MethodError::UnknownMethod { class, method }),
        }
        .map_err(|fault| MethodError::new(id, name_of(id), fault))
    }

    /// Appends the payload of a method frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::ConnectionStart(method) => method.encode(out),
            Self::ConnectionStartOk(method) => method.encode(out),
            Self::ConnectionSecure(method) => method.encode(out),
            Self::ConnectionSecureOk(method) => method.encode(out),
            Self::ConnectionTune(method) => method.encode(out),
            Self::ConnectionTuneOk(method) => method.encode(out),
            Self::ConnectionOpen(method) => method.encode(out),
            Self::ConnectionOpenOk(method) => method.encode(out),
            Self::ConnectionClose(method) => method.encode(out),
            Self::ConnectionCloseOk(method) => method.encode(out),
            Self::ConnectionBlocked(method) => method.encode(out),
            Self::ConnectionUnblocked(method) => method.encode(out),
            Self::ConnectionUpdateSecret(method) => method.encode(out),
            Self::ConnectionUpdateSecretOk(method) => method.encode(out),
            Self::ChannelOpen(method) => method.encode(out),
            Self::ChannelOpenOk(method) => method.encode(out),
            Self::ChannelFlow(method) => method.encode(out),
            Self::ChannelFlowOk(method) => method.encode(out),
            Self::ChannelClose(method) => method.encode(out),
            Self::ChannelCloseOk(method) => method.encode(out),
            Self::AccessRequest(method) => method.encode(out),
            Self::AccessRequestOk(method) => method.encode(out),
            Self::ExchangeDeclare(method) => method.encode(out),
            Self::ExchangeDeclareOk(method) => method.encode(out),
            Self::ExchangeDelete(method) => method.encode(out),
            Self::ExchangeDeleteOk(method) => method.encode(out),
            Self::ExchangeBind(method) => method.encode(out),
            Self::ExchangeBindOk(method) => method.encode(out),
            Self::ExchangeUnbind(method) => method.encode(out),
            Self::ExchangeUnbindOk(method) => method.encode(out),
            Self::QueueDeclare(method) => method.encode(out),
            Self::QueueDeclareOk(method) => method.encode(out),
            Self::QueueBind(method) => method.encode(out),
            Self::QueueBindOk(method) => method.encode(out),
            Self::QueuePurge(method) => method.encode(out),
            Self::QueuePurgeOk(method) => method.encode(out),
            Self::QueueDelete(method) => method.encode(out),
            Self::QueueDeleteOk(method) => method.encode(out),
            Self::QueueUnbind(method) => method.encode(out),
            Self::QueueUnbindOk(method) => method.encode(out),
            Self::BasicQos(method) => method.encode(out),
            Self::BasicQosOk(method) => method.encode(out),
            Self::BasicConsume(method) => method.encode(out),
            Self::BasicConsumeOk(method) => method.encode(out),
            Self::BasicCancel(method) => method.encode(out),
            Self::BasicCancelOk(method) => method.encode(out),
            Self::BasicPublish(method) => method.encode(out),
            Self::BasicReturn(method) => method.encode(out),
            Self::BasicDeliver(method) => method.encode(out),
            Self::BasicGet(method) => method.encode(out),
            Self::BasicGetOk(method) => method.encode(out),
            Self::BasicGetEmpty(method) => method.encode(out),
            Self::BasicAck(method) => method.encode(out),
            Self::BasicReject(method) => method.encode(out),
            Self::BasicRecoverAsync(method) => method.encode(out),
            Self::BasicRecover(method) => method.encode(out),
            Self::BasicRecoverOk(method) => method.encode(out),
            Self::BasicNack(method) => method.encode(out),
            Self::ConfirmSelect(method) => method.encode(out),
            Self::ConfirmSelectOk(method) => method.encode(out),
            Self::TxSelect(method) => method.encode(out),
            Self::TxSelectOk(method) => method.encode(out),
            Self::TxCommit(method) => method.encode(out),
            Self::TxCommitOk(method) => method.encode(out),
            Self::TxRollback(method) => method.encode(out),
            Self::TxRollbackOk(method) => method.encode(out),
        }
    }

    /// The class id and the method id.
    #[must_use]
    pub const fn id(&self) -> (u16, u16) {
        match self {
            Self::ConnectionStart(_) => (10, 10),
            Self::ConnectionStartOk(_) => (10, 11),
            Self::ConnectionSecure(_) => (10, 20),
            Self::ConnectionSecureOk(_) => (10, 21),
            Self::ConnectionTune(_) => (10, 30),
            Self::ConnectionTuneOk(_) => (10, 31),
            Self::ConnectionOpen(_) => (10, 40),
            Self::ConnectionOpenOk(_) => (10, 41),
            Self::ConnectionClose(_) => (10, 50),
            Self::ConnectionCloseOk(_) => (10, 51),
            Self::ConnectionBlocked(_) => (10, 60),
            Self::ConnectionUnblocked(_) => (10, 61),
            Self::ConnectionUpdateSecret(_) => (10, 70),
            Self::ConnectionUpdateSecretOk(_) => (10, 71),
            Self::ChannelOpen(_) => (20, 10),
            Self::ChannelOpenOk(_) => (20, 11),
            Self::ChannelFlow(_) => (20, 20),
            Self::ChannelFlowOk(_) => (20, 21),
            Self::ChannelClose(_) => (20, 40),
            Self::ChannelCloseOk(_) => (20, 41),
            Self::AccessRequest(_) => (30, 10),
            Self::AccessRequestOk(_) => (30, 11),
            Self::ExchangeDeclare(_) => (40, 10),
            Self::ExchangeDeclareOk(_) => (40, 11),
            Self::ExchangeDelete(_) => (40, 20),
            Self::ExchangeDeleteOk(_) => (40, 21),
            Self::ExchangeBind(_) => (40, 30),
            Self::ExchangeBindOk(_) => (40, 31),
            Self::ExchangeUnbind(_) => (40, 40),
            Self::ExchangeUnbindOk(_) => (40, 51),
            Self::QueueDeclare(_) => (50, 10),
            Self::QueueDeclareOk(_) => (50, 11),
            Self::QueueBind(_) => (50, 20),
            Self::QueueBindOk(_) => (50, 21),
            Self::QueuePurge(_) => (50, 30),
            Self::QueuePurgeOk(_) => (50, 31),
            Self::QueueDelete(_) => (50, 40),
            Self::QueueDeleteOk(_) => (50, 41),
            Self::QueueUnbind(_) => (50, 50),
            Self::QueueUnbindOk(_) => (50, 51),
            Self::BasicQos(_) => (60, 10),
            Self::BasicQosOk(_) => (60, 11),
            Self::BasicConsume(_) => (60, 20),
            Self::BasicConsumeOk(_) => (60, 21),
            Self::BasicCancel(_) => (60, 30),
            Self::BasicCancelOk(_) => (60, 31),
            Self::BasicPublish(_) => (60, 40),
            Self::BasicReturn(_) => (60, 50),
            Self::BasicDeliver(_) => (60, 60),
            Self::BasicGet(_) => (60, 70),
            Self::BasicGetOk(_) => (60, 71),
            Self::BasicGetEmpty(_) => (60, 72),
            Self::BasicAck(_) => (60, 80),
            Self::BasicReject(_) => (60, 90),
            Self::BasicRecoverAsync(_) => (60, 100),
            Self::BasicRecover(_) => (60, 110),
            Self::BasicRecoverOk(_) => (60, 111),
            Self::BasicNack(_) => (60, 120),
            Self::ConfirmSelect(_) => (85, 10),
            Self::ConfirmSelectOk(_) => (85, 11),
            Self::TxSelect(_) => (90, 10),
            Self::TxSelectOk(_) => (90, 11),
            Self::TxCommit(_) => (90, 20),
            Self::TxCommitOk(_) => (90, 21),
            Self::TxRollback(_) => (90, 30),
            Self::TxRollbackOk(_) => (90, 31),
        }
    }

    /// The name, such as "basic.publish".
    #[must_use]
    pub const fn name(&self) -> &'static str {
        name_of(self.id())
    }

    /// Whether a content header and body follow.
    #[must_use]
    pub const fn has_content(&self) -> bool {
        matches!(
            self,
            Self::BasicPublish(_)
                | Self::BasicReturn(_)
                | Self::BasicDeliver(_)
                | Self::BasicGetOk(_)
        )
    }

    /// Whether the sender waits for a reply.
    #[must_use]
    pub const fn is_synchronous(&self) -> bool {
        matches!(
            self,
            Self::ConnectionStart(_)
                | Self::ConnectionSecure(_)
                | Self::ConnectionTune(_)
                | Self::ConnectionOpen(_)
                | Self::ConnectionClose(_)
                | Self::ConnectionUpdateSecret(_)
                | Self::ChannelOpen(_)
                | Self::ChannelFlow(_)
                | Self::ChannelClose(_)
                | Self::AccessRequest(_)
                | Self::ExchangeDeclare(_)
                | Self::ExchangeDelete(_)
                | Self::ExchangeBind(_)
                | Self::ExchangeUnbind(_)
                | Self::QueueDeclare(_)
                | Self::QueueBind(_)
                | Self::QueuePurge(_)
                | Self::QueueDelete(_)
                | Self::QueueUnbind(_)
                | Self::BasicQos(_)
                | Self::BasicConsume(_)
                | Self::BasicCancel(_)
                | Self::BasicGet(_)
                | Self::BasicRecover(_)
                | Self::ConfirmSelect(_)
                | Self::TxSelect(_)
                | Self::TxCommit(_)
                | Self::TxRollback(_)
        )
    }

    /// Whether a client may send it.
    #[must_use]
    pub const fn is_from_client(&self) -> bool {
        matches!(
            self,
            Self::ConnectionStartOk(_)
                | Self::ConnectionSecureOk(_)
                | Self::ConnectionTuneOk(_)
                | Self::ConnectionOpen(_)
                | Self::ConnectionClose(_)
                | Self::ConnectionCloseOk(_)
                | Self::ConnectionUpdateSecret(_)
                | Self::ChannelOpen(_)
                | Self::ChannelFlow(_)
                | Self::ChannelFlowOk(_)
                | Self::ChannelClose(_)
                | Self::ChannelCloseOk(_)
                | Self::AccessRequest(_)
                | Self::ExchangeDeclare(_)
                | Self::ExchangeDelete(_)
                | Self::ExchangeBind(_)
                | Self::ExchangeUnbind(_)
                | Self::QueueDeclare(_)
                | Self::QueueBind(_)
                | Self::QueuePurge(_)
                | Self::QueueDelete(_)
                | Self::QueueUnbind(_)
                | Self::BasicQos(_)
                | Self::BasicConsume(_)
                | Self::BasicCancel(_)
                | Self::BasicCancelOk(_)
                | Self::BasicPublish(_)
                | Self::BasicGet(_)
                | Self::BasicAck(_)
                | Self::BasicReject(_)
                | Self::BasicRecoverAsync(_)
                | Self::BasicRecover(_)
                | Self::BasicNack(_)
                | Self::ConfirmSelect(_)
                | Self::TxSelect(_)
                | Self::TxCommit(_)
                | Self::TxRollback(_)
        )
    }

    /// Whether a server may send it.
    #[must_use]
    pub const fn is_from_server(&self) -> bool {
        matches!(
            self,
            Self::ConnectionStart(_)
                | Self::ConnectionSecure(_)
                | Self::ConnectionTune(_)
                | Self::ConnectionOpenOk(_)
                | Self::ConnectionClose(_)
                | Self::ConnectionCloseOk(_)
                | Self::ConnectionBlocked(_)
                | Self::ConnectionUnblocked(_)
                | Self::ConnectionUpdateSecretOk(_)
                | Self::ChannelOpenOk(_)
                | Self::ChannelFlow(_)
                | Self::ChannelFlowOk(_)
                | Self::ChannelClose(_)
                | Self::ChannelCloseOk(_)
                | Self::AccessRequestOk(_)
                | Self::ExchangeDeclareOk(_)
                | Self::ExchangeDeleteOk(_)
                | Self::ExchangeBindOk(_)
                | Self::ExchangeUnbindOk(_)
                | Self::QueueDeclareOk(_)
                | Self::QueueBindOk(_)
                | Self::QueuePurgeOk(_)
                | Self::QueueDeleteOk(_)
                | Self::QueueUnbindOk(_)
                | Self::BasicQosOk(_)
                | Self::BasicConsumeOk(_)
                | Self::BasicCancel(_)
                | Self::BasicCancelOk(_)
                | Self::BasicReturn(_)
                | Self::BasicDeliver(_)
                | Self::BasicGetOk(_)
                | Self::BasicGetEmpty(_)
                | Self::BasicAck(_)
                | Self::BasicRecoverOk(_)
                | Self::BasicNack(_)
                | Self::ConfirmSelectOk(_)
                | Self::TxSelectOk(_)
                | Self::TxCommitOk(_)
                | Self::TxRollbackOk(_)
        )
    }
}

/// The name of a method by its ids; empty if there is none.
const fn name_of(id: (u16, u16)) -> &'static str {
    match id {
        (10, 10) => "connection.start",
        (10, 11) => "connection.start-ok",
        (10, 20) => "connection.secure",
        (10, 21) => "connection.secure-ok",
        (10, 30) => "connection.tune",
        (10, 31) => "connection.tune-ok",
        (10, 40) => "connection.open",
        (10, 41) => "connection.open-ok",
        (10, 50) => "connection.close",
        (10, 51) => "connection.close-ok",
        (10, 60) => "connection.blocked",
        (10, 61) => "connection.unblocked",
        (10, 70) => "connection.update-secret",
        (10, 71) => "connection.update-secret-ok",
        (20, 10) => "channel.open",
        (20, 11) => "channel.open-ok",
        (20, 20) => "channel.flow",
        (20, 21) => "channel.flow-ok",
        (20, 40) => "channel.close",
        (20, 41) => "channel.close-ok",
        (30, 10) => "access.request",
        (30, 11) => "access.request-ok",
        (40, 10) => "exchange.declare",
        (40, 11) => "exchange.declare-ok",
        (40, 20) => "exchange.delete",
        (40, 21) => "exchange.delete-ok",
        (40, 30) => "exchange.bind",
        (40, 31) => "exchange.bind-ok",
        (40, 40) => "exchange.unbind",
        (40, 51) => "exchange.unbind-ok",
        (50, 10) => "queue.declare",
        (50, 11) => "queue.declare-ok",
        (50, 20) => "queue.bind",
        (50, 21) => "queue.bind-ok",
        (50, 30) => "queue.purge",
        (50, 31) => "queue.purge-ok",
        (50, 40) => "queue.delete",
        (50, 41) => "queue.delete-ok",
        (50, 50) => "queue.unbind",
        (50, 51) => "queue.unbind-ok",
        (60, 10) => "basic.qos",
        (60, 11) => "basic.qos-ok",
        (60, 20) => "basic.consume",
        (60, 21) => "basic.consume-ok",
        (60, 30) => "basic.cancel",
        (60, 31) => "basic.cancel-ok",
        (60, 40) => "basic.publish",
        (60, 50) => "basic.return",
        (60, 60) => "basic.deliver",
        (60, 70) => "basic.get",
        (60, 71) => "basic.get-ok",
        (60, 72) => "basic.get-empty",
        (60, 80) => "basic.ack",
        (60, 90) => "basic.reject",
        (60, 100) => "basic.recover-async",
        (60, 110) => "basic.recover",
        (60, 111) => "basic.recover-ok",
        (60, 120) => "basic.nack",
        (85, 10) => "confirm.select",
        (85, 11) => "confirm.select-ok",
        (90, 10) => "tx.select",
        (90, 11) => "tx.select-ok",
        (90, 20) => "tx.commit",
        (90, 21) => "tx.commit-ok",
        (90, 30) => "tx.rollback",
        (90, 31) => "tx.rollback-ok",
        _ => "",
    }
}
