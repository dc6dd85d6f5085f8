//! The tables as diesel sees them. In step with `migrations/`; only Text, BigInt, Bool and Binary, so that another
//! database can serve under the same schema.

use diesel::{allow_tables_to_appear_in_same_query, table};

table! {
    sessions (id) {
        id -> Text,
        consumer_id -> Text,
        provider -> Nullable<Text>,
        offer_id -> Nullable<Text>,
        gpu_type -> Nullable<Text>,
        gpu_count -> Nullable<BigInt>,
        status -> Text,
        stage -> Text,
        end_reason -> Nullable<Text>,
        error -> Nullable<Text>,
        status_message -> Text,
        workload_type -> Text,
        price_nanos -> BigInt,
        cost_nanos -> BigInt,
        cost_final -> Bool,
        ssh_host -> Nullable<Text>,
        ssh_port -> Nullable<BigInt>,
        ssh_user -> Nullable<Text>,
        created_at -> Text,
        updated_at -> Text,
        expires_at -> Text,
        hard_max_at -> Text,
        running_at -> Nullable<Text>,
        stopped_at -> Nullable<Text>,
        attempt -> BigInt,
        version -> BigInt,
        revision -> BigInt,
        sequence -> BigInt,
        labels -> Text,
        request -> Text,
        detail -> Text,
    }
}

table! {
    session_labels (session_id, key) {
        session_id -> Text,
        key -> Text,
        value -> Text,
    }
}

table! {
    instances (label) {
        label -> Text,
        session_id -> Text,
        attempt -> BigInt,
        provider -> Text,
        account -> Text,
        native_id -> Nullable<Text>,
        offer_id -> Text,
        machine_id -> Text,
        gpu_type -> Nullable<Text>,
        desired -> Text,
        launch -> Text,
        settled_at -> Nullable<BigInt>,
        evidence -> Nullable<Text>,
        created_at -> BigInt,
        destroy_tries -> BigInt,
        next_destroy_at -> Nullable<BigInt>,
        rate_picos -> BigInt,
        last_error -> Nullable<Text>,
        detail -> Text,
    }
}

table! {
    segments (session_id, attempt, ordinal) {
        session_id -> Text,
        attempt -> BigInt,
        ordinal -> BigInt,
        component -> Text,
        rate_picos -> BigInt,
        from_low -> BigInt,
        from_at -> BigInt,
        to_at -> BigInt,
        to_high -> Nullable<BigInt>,
        presumed -> Bool,
        over_at -> BigInt,
    }
}

table! {
    audit (id) {
        id -> BigInt,
        at -> BigInt,
        actor -> Text,
        action -> Text,
        target -> Text,
        detail -> Text,
    }
}

table! {
    events (revision) {
        revision -> BigInt,
        session_id -> Text,
        sequence -> BigInt,
        kind -> Text,
        from_state -> Text,
        to_state -> Text,
        stage -> Text,
        end_reason -> Nullable<Text>,
        actor -> Text,
        at -> BigInt,
        message -> Text,
        cost_nanos -> BigInt,
        detail -> Text,
    }
}

table! {
    requests (principal, method, request_id) {
        principal -> Text,
        method -> Text,
        request_id -> Text,
        hash -> Text,
        session_id -> Text,
        created_at -> BigInt,
        watch_revision -> BigInt,
        sealed -> Nullable<Binary>,
    }
}

table! {
    offer_failures (session_id, attempt, outcome) {
        session_id -> Text,
        attempt -> BigInt,
        outcome -> Text,
        provider -> Text,
        offer_id -> Text,
        machine_id -> Text,
        host_id -> Nullable<Text>,
        own_image -> Bool,
        at -> BigInt,
        message -> Text,
        gpu_type -> Text,
    }
}

table! {
    tokens (name) {
        name -> Text,
        role -> Text,
        consumer_id -> Nullable<Text>,
        hash -> Binary,
        created_at -> BigInt,
        created_by -> Text,
        expires_at -> Nullable<BigInt>,
        revoked_at -> Nullable<BigInt>,
        revoked_by -> Nullable<Text>,
    }
}

table! {
    timelines (id) {
        id -> BigInt,
        first_revision -> BigInt,
        opened_at -> BigInt,
    }
}

table! {
    meta (key) {
        key -> Text,
        value -> Text,
    }
}

allow_tables_to_appear_in_same_query!(sessions, session_labels, instances, segments, events, requests);
