//! What `guard_ways_in` knows of arguments beforehand: which take no text for keeping, and why, and what makes a call good.

/// Arguments that take no text for keeping: what each is given, and what then happens to a secret in it.
pub enum Instead {
    /// One of a few words, or the name of something that exists: this SQLSTATE, and nothing is stored.
    Grammar(&'static str),
    /// Neither stored nor logged: it is looked up, or hashed, or goes back to the caller.
    NotKept,
    /// Encrypted, under a grammar of its own: the contract's exception.
    Recipient,
    /// From a vendor, through the sidecar: stored without what looks like a secret (`guard_canary`).
    Withheld,
    /// What is certain to be a secret is refused with RT001; what only looks random is no name of a worker's host, or is
    /// what the call is about, or is refused for another reason.
    CertainAlone,
}
use Instead::{CertainAlone, Grammar, NotKept, Recipient, Withheld};

pub const EXCEPTIONS: &[(&str, Instead)] = &[
    ("acknowledge_incident.dedup_key", NotKept),
    ("acknowledge_incident.external_id", Grammar("22023")),
    ("add_member.role", Grammar("22023")),
    ("add_member.tenant", Grammar("PT404")),
    ("add_notification_policy.channel", Grammar("22023")),
    ("add_notification_policy.recipient", Recipient),
    ("allow_value.field", Grammar("22023")),
    ("allow_value.value", CertainAlone),
    ("claim_notifications.worker", CertainAlone),
    ("complete_notification.provider_message_id", Withheld),
    ("complete_notifications.results", Withheld),
    ("create_tenant.time_zone", Grammar("22023")),
    ("decrypt.label", NotKept),
    ("decrypt.row_key", NotKept),
    ("destroy_key.confirm", Grammar("22023")),
    ("destroy_key.tenant", Grammar("PT404")),
    // pg_cron isn't in this database; with it, record_schedule() looks at the same text first.
    ("enable_schedule.cron", Grammar("55000")),
    // The application's own values: encrypting secrets is what it is for. Label and key are bound to it, not stored.
    ("encrypt.label", NotKept),
    ("encrypt.plaintext", NotKept),
    ("encrypt.row_key", NotKept),
    ("encrypted_columns.column_name", Grammar("")),
    ("encrypted_columns.row_key_column", Grammar("")),
    ("encrypted_columns.schema_name", Grammar("")),
    ("encrypted_columns.table_name", Grammar("")),
    ("encrypted_columns.tenant_column", Grammar("")),
    ("encrypted_columns.registered_by", Grammar("")),
    ("fail_notification.error", Withheld),
    ("fail_notification.reason", Grammar("22023")),
    // Kept as a keyed hash.
    ("link_identity.external_id", Grammar("22023")),
    ("link_identity.kind", Grammar("22023")),
    ("offboard_tenant.confirm", Grammar("PT404")),
    ("offboard_tenant.tenant", Grammar("PT404")),
    ("postpone_notifications.claims", Withheld),
    ("press_button.action", Grammar("22023")),
    ("press_button.external_id", Grammar("22023")),
    ("press_button.kind", Grammar("22023")),
    ("press_button.token", Grammar("PT404")),
    ("press_button.via", Grammar("22023")),
    ("record_audit_export.tenant", Grammar("PT404")),
    // Made by the sidecar: a signature over a block, checked against it.
    ("record_audit_signature.copies", Grammar("PT404")),
    ("record_audit_signature.key_name", Grammar("PT404")),
    ("record_audit_signature.note", Grammar("PT404")),
    ("record_link_refusal.action", Grammar("22023")),
    ("record_link_refusal.reason", Grammar("22023")),
    ("record_link_refusal.token", NotKept),
    ("record_link_refusal.via", Grammar("22023")),
    ("record_press_refusal.action", Grammar("22023")),
    ("record_press_refusal.external_id", Grammar("22023")),
    ("record_press_refusal.kind", Grammar("22023")),
    ("record_press_refusal.reason", Grammar("22023")),
    ("record_press_refusal.token", NotKept),
    ("record_press_refusal.via", Grammar("22023")),
    ("redeem_link.action", Grammar("22023")),
    ("redeem_link.token", Grammar("PT404")),
    ("redeem_link.via", Grammar("22023")),
    ("register_encrypted_column.column_name", Grammar("")),
    // PostgreSQL looks tables up by itself, before the function is called.
    ("register_encrypted_column.relation", Grammar("")),
    ("register_encrypted_column.row_key_column", Grammar("")),
    ("register_encrypted_column.tenant_column", Grammar("")),
    ("register_secret.priority", CertainAlone),
    ("remove_member.tenant", Grammar("PT404")),
    ("retire_key.tenant", Grammar("PT404")),
    ("rotate_key.tenant", Grammar("PT404")),
    ("scan_texts.after", Grammar("22023")),
    ("search_secrets.owner", NotKept),
    ("search_secrets.provider", NotKept),
    ("search_secrets.query", NotKept),
    ("search_secrets.status", Grammar("22023")),
    ("set_contact.channel", Grammar("22023")),
    ("set_contact.recipient", Recipient),
    // Its texts are intervals, words of a list, and recipients.
    ("set_escalation_policy.steps", Grammar("22023")),
    ("set_key_schedule.tenant", Grammar("PT404")),
    ("test_notification.channel", Grammar("22023")),
    ("test_notification.recipient", Recipient),
    ("unlink_identity.external_id", Grammar("22023")),
    ("unlink_identity.kind", Grammar("22023")),
    ("unregister_encrypted_column.column_name", Grammar("")),
    ("unregister_encrypted_column.relation", Grammar("")),
    ("use_tenant.tenant", Grammar("")),
    ("verify_audit.tenant", Grammar("PT404")),
    // Columns of the view that nobody sets.
    ("secrets.acknowledged_by", Grammar("22023")),
    ("secrets.priority", CertainAlone),
    ("secrets.status", Grammar("22023")),
];

/// What the other arguments are given, so that only the text is at fault.
pub const GOOD: &[(&str, &str)] = &[
    (
        "secret_id",
        "(select id from rotator.secrets order by id limit 1)",
    ),
    ("expiry_date", "now() + interval '1 year'"),
    ("next_expiry_date", "now() + interval '1 year'"),
    ("channel", "'console'"),
    ("token", "current_setting('guard.token')"),
    ("action", "'acknowledge'"),
    ("field", "'note'"),
    ("kind", "'slack'"),
    ("external_id", "'T024BE7LD/U012AB3CD'"),
    ("reason", "'why'"),
    ("slug", "'fresh'"),
    ("relation", "'pg_catalog.pg_class'"),
    ("column_name", "'relacl'"),
    ("row_key_column", "'oid'"),
];
