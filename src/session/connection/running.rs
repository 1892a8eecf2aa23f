//! An open connection: what its frames ask for, and the channels they ask it of.

use std::sync::{Arc, PoisonError};

use super::closing::{End, NO_METHOD, check_shape, undecodable, unexpected};
use super::{ChannelState, Running};
use crate::broker::Broker;
use crate::broker::access::{Candidate, Identity, Refreshed, Rights, Taken};
use crate::broker::events::fields;
use crate::broker::limits::Limit;
use crate::broker::queue::DeleteCondition;
use crate::broker::views::NodeCounters;
use crate::protocol::frame::{Frame, FrameKind};
use crate::protocol::method::{Method, channel as channel_methods};
use crate::protocol::refusal::{self, Refusal, Scope};
use crate::protocol::reply_code::ReplyCode;
use crate::session::channel::{AckState, Channel};
use crate::session::core::Core;
use crate::session::output::Output;
use crate::session::refused;

/// basic.publish, the method that contents follow.
const PUBLISH: (u16, u16) = (60, 40);

impl Running {
    pub(super) fn on_frame(&mut self, frame: &Frame<'_>) -> Result<(), End> {
        check_shape(frame).map_err(|refusal| End::refused(refusal, NO_METHOD))?;
        match frame.kind {
            FrameKind::Heartbeat if frame.channel == 0 => Ok(()),
            FrameKind::Heartbeat => Err(End::refused(unexpected(frame), NO_METHOD)),
            FrameKind::Method if frame.channel == 0 => self.on_connection_method(frame),
            FrameKind::Method => self.on_method_frame(frame),
            FrameKind::Header | FrameKind::Body => self.on_content_frame(frame),
        }
    }

    fn on_method_frame(&mut self, frame: &Frame<'_>) -> Result<(), End> {
        let decode = || Method::decode(frame.payload).map_err(|error| undecodable(frame, &error));
        let (result, id) = match self.channels.get_mut(&frame.channel) {
            Some(ChannelState::Open(channel)) => {
                if channel.expects_content() {
                    return Err(End::refused(channel.unexpected_method(), PUBLISH));
                }
                let method = decode()?;
                let result = match &method {
                    Method::ChannelOpen(_) => Err(refusal::channel_already_open()),
                    Method::ChannelClose(_) => {
                        self.close_channel(frame.channel);
                        let ok = Method::ChannelCloseOk(Default::default());
                        self.core.send(frame.channel, &ok);
                        Ok(())
                    }
                    method => channel.on_method(&mut self.core, method),
                };
                (result, method.id())
            }
            Some(ChannelState::Closing) => {
                match decode()? {
                    Method::ChannelCloseOk(_) => {
                        self.channels.remove(&frame.channel);
                    }
                    Method::ChannelClose(_) => {
                        let ok = Method::ChannelCloseOk(Default::default());
                        self.core.send(frame.channel, &ok);
                    }
                    _ => {}
                }
                return Ok(());
            }
            None => {
                let place = self.channel_place()?;
                let method = decode()?;
                let result = match &method {
                    Method::ChannelOpen(_) => self.open_channel(frame.channel, place),
                    _ => Err(refusal::channel_not_open()),
                };
                (result, method.id())
            }
        };
        result.or_else(|refusal| self.refused(frame.channel, refusal, id))
    }

    fn on_content_frame(&mut self, frame: &Frame<'_>) -> Result<(), End> {
        if frame.channel == 0 {
            return Err(End::refused(unexpected(frame), NO_METHOD));
        }
        let result = match self.channels.get_mut(&frame.channel) {
            Some(ChannelState::Open(channel)) if channel.expects_content() => match frame.kind {
                FrameKind::Header => channel.on_header(&mut self.core, frame.payload),
                _ => channel.on_body(&mut self.core, frame.payload),
            },
            Some(ChannelState::Closing) => return Ok(()),
            state => {
                if state.is_none() {
                    self.channel_place()?;
                }
                return Err(End::refused(refusal::content_unexpected_header(), NO_METHOD));
            }
        };
        self.throttle.on_content(&mut self.core);
        result.or_else(|refusal| self.refused(frame.channel, refusal, PUBLISH))
    }

    fn on_connection_method(&mut self, frame: &Frame<'_>) -> Result<(), End> {
        let method = Method::decode(frame.payload).map_err(|error| undecodable(frame, &error))?;
        match method {
            Method::ConnectionClose(_) => Err(End::ClosedByClient),
            Method::ConnectionUpdateSecret(update) => {
                let renewed = self.renew_identity(update.new_secret);
                renewed.map_err(|refusal| End::refused(refusal, method.id()))?;
                self.core.send(0, &Method::ConnectionUpdateSecretOk(Default::default()));
                self.look_at_rights()
            }
            _ => Err(End::refused(refusal::connection_unexpected_method("running"), method.id())),
        }
    }

    /// A place for one more channel, if it fits. Whatever comes on a number without a channel makes
    /// one in RabbitMQ, so this is looked at before anything else.
    fn channel_place(&self) -> Result<Taken, End> {
        let (open, max) = (self.channels.len(), usize::from(self.channel_max));
        if max > 0 && open >= max {
            return Err(End::refused(refusal::channel_max_reached(open, max), NO_METHOD));
        }
        let place = self.core.broker.take_channel_place();
        place.map_err(|refusal| End::refused(refusal, NO_METHOD))
    }

    fn open_channel(&mut self, number: u16, of_node: Taken) -> Result<(), Refusal> {
        let user = self.core.asker.rights.user();
        let of_user = self.core.broker.access().take_channel(user).ok_or_else(|| {
            let max = user.limits.channels_max.unwrap_or_default();
            refusal::channel_user_limit(&user.name, max)
        })?;
        let channel = Box::new(Channel::new(number, [of_node, of_user]));
        channel.tell_created(&mut self.core);
        self.channels.insert(number, ChannelState::Open(channel));
        NodeCounters::add(&self.core.broker.counters().channels_opened, 1);
        self.core.view_changed = true;
        self.core.send(number, &Method::ChannelOpenOk(Default::default()));
        Ok(())
    }

    fn close_channel(&mut self, number: u16) {
        if let Some(ChannelState::Open(channel)) = self.channels.remove(&number) {
            self.confirms_due.retain(|other| *other != number);
            self.core.confirming.retain(|other| *other != number);
            channel.end(&mut self.core);
            NodeCounters::add(&self.core.broker.counters().channels_closed, 1);
        }
    }

    /// Looks whether the user may do other things than before: consumers of queues that may not be
    /// read any more are cancelled, and the connection of a user who is no more ends.
    pub(super) fn look_at_rights(&mut self) -> Result<(), End> {
        match self.core.asker.rights.refresh(self.core.broker.access(), self.core.now) {
            Refreshed::Same => Ok(()),
            Refreshed::Expired => {
                Err(End::refused(refusal::connection_credential_expired(), NO_METHOD))
            }
            Refreshed::UserGone => {
                let user = &self.core.asker.rights.user().name;
                Err(End::refused(refusal::connection_user_deleted(user), NO_METHOD))
            }
            Refreshed::Changed => {
                self.follow_rights();
                Ok(())
            }
        }
    }

    fn follow_rights(&mut self) {
        self.core.rights_changed();
        for state in self.channels.values_mut() {
            if let ChannelState::Open(channel) = state {
                channel.cancel_refused_consumers(&mut self.core);
            }
        }
    }

    /// The client shows a new secret, before its old one expires. The node's own records know no
    /// secrets that do: there it is ignored. The right to be here is looked at again in any case.
    fn renew_identity(&mut self, secret: &[u8]) -> Result<(), Refusal> {
        let Core { broker, vhost, asker, now, .. } = &mut self.core;
        let view = self.handle.view.lock().unwrap_or_else(PoisonError::into_inner);
        let peer = view.peer.0.clone();
        drop(view);
        let mut identity = asker.rights.identity();
        if identity.authority.is_some() {
            let who = Candidate { name: &identity.user.name, from_loopback: true };
            let renewed = broker.access().log_in(who, secret);
            let is_same = |new: &Identity| new.user.name == identity.user.name;
            let renewed = renewed.filter(is_same);
            identity = renewed.ok_or_else(refusal::connection_secret_refused)?;
        }
        if !identity.may_enter(broker.access(), vhost.name(), Some(&peer)) {
            return Err(refusal::connection_vhost_refused(vhost.name(), &identity.user.name));
        }
        asker.rights = Rights::new(broker.access(), identity, Arc::clone(vhost.name()), *now);
        self.follow_rights();
        Ok(())
    }

    /// Closes what the refusal closes.
    pub(super) fn refused(
        &mut self,
        number: u16,
        refusal: Refusal,
        id: (u16, u16),
    ) -> Result<(), End> {
        if refusal.scope == Scope::Connection {
            // A fault of RabbitMQ's own does not say over which method it stumbled.
            let id = if refusal.code == ReplyCode::INTERNAL_ERROR { NO_METHOD } else { id };
            return Err(End::refused(refusal, id));
        }
        if let Some(limit) = Limit::of_refusal(refusal.id) {
            let limits = &self.core.broker.counters().limits;
            if let Some(times) = limits.note_aloud(limit, self.core.now) {
                let (connection, limit) = (&self.core.asker.connection_name, limit.name());
                tracing::warn!(%connection, channel = number, limit, times, "{}", refusal.text);
            }
        }
        refused::tell(&self.core.broker, &mut self.core.effects, &refusal);
        // What was published before the mistake counts.
        self.core.flush();
        self.close_channel(number);
        let close = channel_methods::Close {
            reply_code: refusal.code.0,
            reply_text: &refusal.text,
            class_id: id.0,
            method_id: id.1,
        };
        self.core.send(number, &Method::ChannelClose(close));
        self.channels.insert(number, ChannelState::Closing);
        Ok(())
    }

    pub(super) fn close_channels_that_do_not_acknowledge(&mut self) -> Result<(), End> {
        let mut late = Vec::new();
        for (number, state) in &self.channels {
            let ChannelState::Open(channel) = state else { continue };
            match channel.acks(&self.core) {
                AckState::None => {}
                AckState::Waits => self.core.watch_acks(),
                AckState::Overdue { limit_ms } => late.push((*number, limit_ms)),
            }
        }
        for (number, limit_ms) in late {
            let refusal = refusal::basic_ack_timeout(number, limit_ms);
            self.refused(number, refusal, NO_METHOD)?;
        }
        Ok(())
    }

    pub(super) fn tell_created(&mut self) {
        let Core { broker, effects, asker, .. } = &mut self.core;
        let view = self.handle.view.lock().unwrap_or_else(PoisonError::into_inner);
        broker
            .told(effects)
            .tell("connection.created", || fields::connection(broker, asker.connection, &view));
    }

    fn tell_closed(&mut self) {
        let Core { broker, effects, asker, .. } = &mut self.core;
        let view = self.handle.view.lock().unwrap_or_else(PoisonError::into_inner);
        broker.told(effects).notice("connection.closed", || {
            fields::closed_connection(broker, asker.connection, &view)
        });
    }

    /// Ends every channel, deletes exclusive queues, and hands back what is still to be written.
    pub(super) fn end(mut self: Box<Self>, broker: &Arc<Broker>) -> Output {
        self.core.flush();
        let numbers: Vec<u16> = self.channels.keys().copied().collect();
        for number in numbers {
            self.close_channel(number);
        }
        for queue in self.core.exclusive_queues.take_all() {
            let condition = DeleteCondition::OwnerGone;
            broker.delete_gone_queue(&queue, condition, &mut self.core.effects);
        }
        self.tell_closed();
        broker.finish(&mut self.core.effects, self.core.now);
        self.core.fold_tally();
        broker.remove_connection(self.core.id());
        self.core.out
    }
}
