//! The scheduled world that a scenario's file describes.

use std::sync::Arc;
use std::time::Duration;

use pagehaul::fetch::FetchErrorKind;
use rand_core::{Rng, SeedableRng};
use rand_xoshiro::SplitMix64;

use super::file::{FailureStreak, Fault, World as File};
use crate::common::scripted::Reply;
use crate::common::world::{Call, World, html, id, internal_error, refusal, throttled};

/// What a file says about time: latency and faults. Whatever looks random follows from its seed and a request's number.
struct Schedule(File);

impl Schedule {
    fn dice(&self, call: &Call) -> SplitMix64 {
        let seed = self.0.seed << 32 | (call.number - 1) as u64;
        SplitMix64::seed_from_u64(SplitMix64::seed_from_u64(seed).next_u64())
    }

    fn fault(&self, call: &Call, dice: &mut SplitMix64) -> Option<&Fault> {
        let concerns = |fault: &&Fault| fault.concerns(call.item as u32, call.since);
        self.0.fault.iter().filter(concerns).find(|fault| fault.share.is_none_or(|share| draw(dice) < share))
    }

    fn does(&self, call: &Call) -> Option<FailureStreak> {
        self.fault(call, &mut self.dice(call)).map(|fault| fault.does)
    }

    fn delay(&self, call: &Call) -> Duration {
        let mut dice = self.dice(call);
        let fault = self.fault(call, &mut dice);
        let mut latency = self.0.latency + self.0.jitter.mul_f64(draw(&mut dice));
        if let Some(tail) = self.0.tail.as_ref().filter(|tail| draw(&mut dice) < tail.share) {
            latency += tail.adds;
        }
        let slower = fault.filter(|fault| fault.does == FailureStreak::IsSlow).and_then(|fault| fault.factor);
        latency * slower.unwrap_or(1)
    }

    fn loss(&self, call: &Call) -> Option<Reply> {
        let is_lost = self.does(call) == Some(FailureStreak::RefusesConnections);
        is_lost.then(|| Reply::lost(FetchErrorKind::Connect).after(Duration::from_millis(1)))
    }

    fn free(&self, call: &Call) -> Option<Reply> {
        let fault = self.fault(call, &mut self.dice(call))?;
        let reply = match fault.does {
            FailureStreak::Resets => Reply::lost(FetchErrorKind::Disconnected),
            FailureStreak::Answers500 => internal_error(),
            FailureStreak::AnswersHtml => html(502),
            FailureStreak::Answers429 => throttled(fault.retry_after.map_or(0, |pause| pause.as_secs())),
            FailureStreak::RefusesTheKey => refusal(401, "invalid api key"),
            FailureStreak::IsSlow | FailureStreak::IsSilent | FailureStreak::RefusesConnections => return None,
        };
        Some(reply.after(self.delay(call)))
    }

    fn silence(&self, call: &Call) -> Option<Reply> {
        (self.does(call) == Some(FailureStreak::IsSilent)).then(Reply::never)
    }
}

/// The world of a file. Rows have only what a row must have: the tests of the decoder are elsewhere.
pub(crate) fn world(file: File, page_size: u32) -> World {
    let rows = |pages: u32| pages.saturating_sub(1) * page_size + if pages > 0 { page_size / 2 } else { 0 };
    let mut world = World::new(file.depths().into_iter().map(|pages| u64::from(rows(pages))))
        .with_page_size(page_size as usize)
        .with_rows(|item, row| format!(r#"{{"product_id":"{}","video_id":"v{row}","region":"ID"}}"#, id(item)))
        .with_credits(file.credits);
    for limit in &file.limit {
        world = world.limited(limit.counted());
    }
    let schedule = Arc::new(Schedule(file));
    let [delays, losses, free, silence] = [(); 4].map(|()| Arc::clone(&schedule));
    world
        .taking(move |call| Some(delays.delay(call)))
        .losing(move |call| losses.loss(call))
        .but(move |call| free.free(call))
        .spoiling(move |call, reply| silence.silence(call).unwrap_or(reply))
}

/// A number from 0 to 1.
fn draw(dice: &mut SplitMix64) -> f64 {
    f64::from(u32::try_from(dice.next_u64() >> 32).unwrap()) / f64::from(u32::MAX)
}
