//! `ssegate token`: mints a JSON Web Token, or prints what is in one.

mod audience;
mod inspect;
mod mint;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueHint};
use ssegate_auth::Refusal;
use ssegate_auth::jwt::Algorithm;

use self::mint::ClaimArgument;
use super::config::ConfigFile;
use super::secret::SecretOption;
use super::{CliError, duration};

const KEY: SecretOption = SecretOption { option: "--key", variable: "SSEGATE_TOKEN_KEY" };

/// What a key in PEM begins with; any other text is a secret.
const PEM: &[u8] = b"-----BEGIN ";

/// Mint a JSON Web Token, or print what is in one
///
/// Prints a token that a route with auth.jwt and the same key accepts, and nothing else. With
/// --inspect prints the header, the claims and the times of a token.
///
/// Other users of the machine see arguments in ps, and the shell keeps them: give the key as @FILE
/// or in the variable SSEGATE_TOKEN_KEY.
#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct TokenCommand {
    /// Print what is in this token instead; - or nothing reads stdin, @FILE a file
    ///
    /// Whether the signature is good is checked only with --key or --jwks; then a token that is not
    /// signed with them, has expired or is not valid yet exits with 1. With -c FILE so does one for
    /// an audience (claim aud) that none of its routes takes.
    #[arg(long, value_name = "TOKEN|@FILE", num_args = 0..=1, default_missing_value = "-")]
    inspect: Option<String>,
    /// The secret or private key in PEM that signs; with --inspect the secret or public key that
    /// verifies [env: SSEGATE_TOKEN_KEY]
    #[arg(long, value_name = "SECRET|@FILE")]
    key: Option<String>,
    /// With --inspect: verify with a key of this JSON Web Key Set
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(requires = "inspect", conflicts_with = "key")]
    jwks: Option<PathBuf>,
    /// The algorithm, for example HS256 or ES256 [default: the usual one of the key]
    #[arg(long, value_name = "NAME", value_parser = mint::algorithm, conflicts_with = "inspect")]
    alg: Option<Algorithm>,
    /// The id of the key, as a key set has it: header kid
    #[arg(long, value_name = "ID", conflicts_with = "inspect")]
    kid: Option<String>,
    /// Whose token it is: claim sub
    #[arg(long, value_name = "ID", conflicts_with = "inspect")]
    sub: Option<String>,
    /// When it expires, from now on: claim exp [default: 1h]
    #[arg(long, value_name = "TIME", value_parser = duration::parse, conflicts_with = "inspect")]
    expires: Option<Duration>,
    /// Who it is for: claim aud; may be repeated
    #[arg(long, value_name = "NAME", conflicts_with = "inspect")]
    audience: Vec<String>,
    /// Who issued it: claim iss
    #[arg(long, value_name = "NAME", conflicts_with = "inspect")]
    issuer: Option<String>,
    /// Another claim, JSON or else text; may be repeated: --claim org=7 --claim 'channels=["a","b"]'
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = mint::claim)]
    #[arg(conflicts_with = "inspect")]
    claims: Vec<ClaimArgument>,
    #[command(flatten)]
    pub(super) config: ConfigFile,
}

const EXAMPLES: &str = "\
Examples:
  ssegate token --key @jwt.key --sub 42 --expires 10m --audience events
  ssegate token --inspect < token.txt
  ssegate token --inspect @token.txt --jwks jwks.json
  ssegate token --inspect @token.txt -c gateway.yaml";

/// Why a token is not good.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    /// It cannot be read.
    #[error("it is not a token that can be read: {0}")]
    Unreadable(Refusal),
    /// It is not good with the key that was given.
    #[error("the token is refused: {0}")]
    Refused(Refusal),
    /// It is for others than the routes of the configuration.
    #[error("no route of {0} takes a token for this audience")]
    Audience(String),
}

impl From<TokenError> for CliError {
    fn from(error: TokenError) -> Self {
        Self::Command(error.into())
    }
}

impl TokenCommand {
    pub(super) fn execute(self) -> Result<(), CliError> {
        match &self.inspect {
            Some(token) => self.print_token(token),
            None if self.config.is_given() => {
                Err(CliError::Usage("-c is for --inspect: a token is minted without it".into()))
            }
            None => self.mint(),
        }
    }
}
