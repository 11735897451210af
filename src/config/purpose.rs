//! What a configuration is read for, which decides whether its certificates are read too.

/// What a configuration is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigPurpose {
    /// To run a gateway: its certificates and keys are read too.
    Run,
    /// To contact a running gateway. Certificates and keys are not read: the user of such a command may
    /// have no permission for them.
    Contact,
}
