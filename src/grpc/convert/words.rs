//! Enum values of the wire and of the domain, in pairs. Both directions are matches without a wildcard: a value that is
//! added on one side does not compile until it has its counterpart.

use crate::domain::access::Role;
use crate::domain::event::EventType;
use crate::domain::instance::{Desired, Evidence, InstanceStatus, Launch};
use crate::domain::memory::SubjectKind;
use crate::domain::offer::{Component, RentalKind};
use crate::domain::session::{
    AttemptFailure, ConditionType, EndReason, FailoverScope, LaunchMode, Quantization, Stage, State, StoragePolicy, Truth, Workload,
};
use crate::domain::verify::Verify;
use crate::grpc::pb;
use crate::ports::Breaker;
use crate::services::sweeper::HoldKind;

/// A domain value with a counterpart on the wire.
pub trait Word: Sized + Copy {
    /// The wire's enum.
    type Wire: TryFrom<i32> + Into<i32>;

    /// Its name in messages about wrong values.
    const NAME: &'static str;

    /// The wire's value for it.
    fn wire(self) -> Self::Wire;

    /// The domain's value; `None` for the wire's "not said".
    fn read(wire: Self::Wire) -> Option<Self>;

    /// Every value of the wire but "not said", by name.
    fn allowed() -> Vec<&'static str>;

    /// The number on the wire.
    fn number(self) -> i32 {
        self.wire().into()
    }
}

/// Writes [`Word`] for one pair of enums.
macro_rules! pairs {
    ($domain:ident = $wire:ident, $name:literal { $($ours:ident = $theirs:ident),+ $(,)? }) => {
        impl Word for $domain {
            type Wire = $wire;

            const NAME: &'static str = $name;

            fn wire(self) -> $wire {
                match self { $($domain::$ours => $wire::$theirs),+ }
            }

            fn read(wire: $wire) -> Option<Self> {
                match wire { $wire::Unspecified => None, $($wire::$theirs => Some($domain::$ours)),+ }
            }

            fn allowed() -> Vec<&'static str> {
                vec![$($wire::$theirs.as_str_name()),+]
            }
        }
    };
}

/// The same where all names are equal.
macro_rules! same {
    ($domain:ident = $wire:ident, $name:literal { $($both:ident),+ $(,)? }) => {
        pairs! { $domain = $wire, $name { $($both = $both),+ } }
    };
}

type WireState = pb::session::State;
type WireCondition = pb::condition::Type;
type WireTruth = pb::condition::Status;
type WireEvent = pb::session_event::Type;
type WireLaunch = pb::instance::Launch;
type WireDesired = pb::instance::Desired;
type WireStatus = pb::instance::Status;
type WireEvidence = pb::instance::Evidence;
type WireBreaker = pb::provider_status::Breaker;
type WireStage = pb::Stage;
type WireSubjectKind = pb::offer_health::Kind;
type WireEndReason = pb::EndReason;
type WireFailure = pb::AttemptFailure;
type WireWorkload = pb::WorkloadType;
type WireStorage = pb::StoragePolicy;
type WireScope = pb::FailoverScope;
type WireVerify = pb::VerifyLevel;
type WireMode = pb::LaunchMode;
type WireQuantization = pb::Quantization;
type WireRental = pb::RentalKind;
type WireComponent = pb::CostComponent;
type WireHold = pb::HoldKind;
type WireRole = pb::TokenRole;

same! { State = WireState, "state" { Pending, Provisioning, Running, Stopping, Stopped, Failed } }

same! { SubjectKind = WireSubjectKind, "kind" { Provider, Host, Machine, Offer } }

same! { Stage = WireStage, "stage" { Requested, Accepted, Scheduled, ImagePulling, Booting, SshReachable, GpuVerified } }

same! {
    EndReason = WireEndReason, "end reason" {
        Completed, DestroyedByUser, Expired, HardMax, Idle, CostLimit, Admin, NoCapacity, ProvisionFailed, VerifyFailed, PriceChanged, ProviderAuth,
        ProviderCredit, Preempted, HostLost, ProviderTerminated, Orphan,
    }
}

pairs! {
    AttemptFailure = WireFailure, "attempt failure" {
        OfferGone = OfferGone,
        RateLimited = RateLimited,
        ProviderAuth = ProviderAuth,
        ProviderCredit = ProviderCredit,
        Invalid = InvalidRequest,
        ProviderUnavailable = ProviderUnavailable,
        NeverAppeared = NeverAppeared,
        StageTimeout = StageTimeout,
        AttemptTimeout = AttemptTimeout,
        InstanceStopped = InstanceStopped,
        InstanceFailed = InstanceFailed,
        InstanceVanished = InstanceVanished,
        AuthFailed = AuthFailed,
        SshAlgorithmMismatch = SshAlgorithmMismatch,
        GpuMismatch = GpuMismatch,
        GpuBroken = GpuBroken,
        PriceChanged = PriceChanged,
        SessionEnded = SessionEnded,
        SecretLost = SecretLost,
        Outbid = Outbid,
    }
}

same! { Workload = WireWorkload, "workload type" { Llm, LlmVllm, LlmTgi, Training, Batch, Interactive, Inference, Ssh, Benchmark } }

same! { StoragePolicy = WireStorage, "storage policy" { Destroy, Preserve } }

same! { FailoverScope = WireScope, "failover scope" { None, SameGpu, SameMemory, Any } }

same! { LaunchMode = WireMode, "launch mode" { Ssh, Entrypoint } }

same! { Quantization = WireQuantization, "quantization" { Fp32, Fp16, Bf16, Fp8, Int8, Awq, Gptq, Int4, GgufQ4 } }

same! { Verify = WireVerify, "verify level" { Ssh, Gpu, Strict } }

same! { RentalKind = WireRental, "rental kind" { OnDemand, Interruptible } }

same! { Component = WireComponent, "component" { Gpu, Cpu, Memory, Disk } }

same! {
    ConditionType = WireCondition, "condition" {
        SshReachable, GpuVerified, Idle, PriceOk, ProviderReachable, InstancePresent, DestroyConfirmed, KeyInstalled, ApiReady,
    }
}

same! { Truth = WireTruth, "status" { True, False, Unknown } }

same! {
    EventType = WireEvent, "event type" {
        Created, StateChanged, StageChanged, AttemptEnded, Extended, Expiring, IdleWarning, CostWarning, PriceChanged, ConditionChanged, Updated,
        KeyRotated,
        LatecomerDestroyed, CostAmended,
    }
}

same! { Launch = WireLaunch, "launch" { Intended, Accepted, Unknown, Refused } }

same! { Desired = WireDesired, "desired" { Present, Gone } }

same! { InstanceStatus = WireStatus, "instance status" { Scheduled, Starting, Running, Stopped, Failed, Offline, Deleting, Gone, Unknown } }

same! { Evidence = WireEvidence, "evidence" { LaunchRefused, NeverLaunched, NeverAppeared, NotFoundTwice, Vanished, Operator } }

same! { Breaker = WireBreaker, "breaker" { Closed, Open, HalfOpen } }

same! { Role = WireRole, "role" { Admin, Consumer, ReadOnly } }

same! { HoldKind = WireHold, "hold kind" { Launches, Sweeper, Expiry } }
