# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_ssegate_global_optspecs
    string join \n c/config= takeover h/help V/version
end

function __fish_ssegate_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_ssegate_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_ssegate_using_subcommand
    set -l cmd (__fish_ssegate_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c ssegate -n "__fish_ssegate_needs_command" -s c -l config -d 'The configuration; - reads standard input [default: ./gateway.yaml]' -r -F
complete -c ssegate -n "__fish_ssegate_needs_command" -l takeover -d 'Take over the sockets of the gateway that runs with this configuration, which then drains'
complete -c ssegate -n "__fish_ssegate_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ssegate -n "__fish_ssegate_needs_command" -s V -l version -d 'Print version'
complete -c ssegate -n "__fish_ssegate_needs_command" -f -a "run" -d 'Run the gateway (the default command)'
complete -c ssegate -n "__fish_ssegate_needs_command" -f -a "dev" -d 'Run without configuration: embedded bus, self-signed certificate, demo page'
complete -c ssegate -n "__fish_ssegate_needs_command" -f -a "check" -d 'Check the configuration and print every error in it'
complete -c ssegate -n "__fish_ssegate_needs_command" -f -a "doctor" -d 'Try what the configuration promises, and say what to do'
complete -c ssegate -n "__fish_ssegate_needs_command" -f -a "reload" -d 'Reload the configuration of the running gateway'
complete -c ssegate -n "__fish_ssegate_needs_command" -f -a "pub" -d 'Publish a message'
complete -c ssegate -n "__fish_ssegate_needs_command" -f -a "sub" -d 'Follow event streams and print their events'
complete -c ssegate -n "__fish_ssegate_needs_command" -f -a "revoke" -d 'Revoke credentials'
complete -c ssegate -n "__fish_ssegate_needs_command" -f -a "token" -d 'Mint a JSON Web Token, or print what is in one'
complete -c ssegate -n "__fish_ssegate_needs_command" -f -a "sign" -d 'Sign a URL'
complete -c ssegate -n "__fish_ssegate_needs_command" -f -a "healthcheck" -d 'Exit with 0 if the gateway is alive (or ready)'
complete -c ssegate -n "__fish_ssegate_needs_command" -f -a "metrics" -d 'Print the metrics of a running gateway'
complete -c ssegate -n "__fish_ssegate_needs_command" -f -a "completions" -d 'Print completions for a shell'
complete -c ssegate -n "__fish_ssegate_needs_command" -f -a "man" -d 'Print the manual page'
complete -c ssegate -n "__fish_ssegate_needs_command" -f -a "schema" -d 'Print the JSON Schema (draft-07) of gateway.yaml, for editors'
complete -c ssegate -n "__fish_ssegate_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c ssegate -n "__fish_ssegate_using_subcommand run" -s c -l config -d 'The configuration; - reads standard input [default: ./gateway.yaml]' -r -F
complete -c ssegate -n "__fish_ssegate_using_subcommand run" -l takeover -d 'Take over the sockets of the gateway that runs with this configuration, which then drains'
complete -c ssegate -n "__fish_ssegate_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ssegate -n "__fish_ssegate_using_subcommand dev" -l to -d 'Forward to this backend in place of the demo page, for example http://127.0.0.1:8000' -r -f
complete -c ssegate -n "__fish_ssegate_using_subcommand dev" -l https-port -d 'Port for HTTPS; 0 picks a free port, here and below [default: 8443]' -r
complete -c ssegate -n "__fish_ssegate_using_subcommand dev" -l http-port -d 'Port for plain HTTP [default: 8080]' -r
complete -c ssegate -n "__fish_ssegate_using_subcommand dev" -l admin-port -d 'Port for /metrics, /readyz and the status page [default: 9464]' -r
complete -c ssegate -n "__fish_ssegate_using_subcommand dev" -l bus-port -d 'Port for the embedded bus, which Redis clients publish to [default: 6380]' -r
complete -c ssegate -n "__fish_ssegate_using_subcommand dev" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ssegate -n "__fish_ssegate_using_subcommand check" -s c -l config -d 'The configuration; - reads standard input [default: ./gateway.yaml]' -r -F
complete -c ssegate -n "__fish_ssegate_using_subcommand check" -l connect -d 'Also connect to Redis, and test whether its ACL permits the channels and streams of the routes; and fetch the keys of tokens that are at a URL'
complete -c ssegate -n "__fish_ssegate_using_subcommand check" -l print -d 'Print the configuration as understood, as YAML: variables replaced, each default filled in and marked, what sse says at each route, secrets hidden'
complete -c ssegate -n "__fish_ssegate_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ssegate -n "__fish_ssegate_using_subcommand doctor" -l stream -d 'Also request this path of a backend with GET, and measure whether its event stream comes unbuffered' -r
complete -c ssegate -n "__fish_ssegate_using_subcommand doctor" -l through -d 'Also open a stream at this public address, and measure whether what stands in front of the gateway passes it on at once' -r
complete -c ssegate -n "__fish_ssegate_using_subcommand doctor" -s H -l header -d 'Send this header with --stream and --through, for example "Cookie: session=…"' -r
complete -c ssegate -n "__fish_ssegate_using_subcommand doctor" -l for -d 'How long --stream watches' -r
complete -c ssegate -n "__fish_ssegate_using_subcommand doctor" -s c -l config -d 'The configuration; - reads standard input [default: ./gateway.yaml]' -r -F
complete -c ssegate -n "__fish_ssegate_using_subcommand doctor" -l insecure -d 'With --through: accept any certificate'
complete -c ssegate -n "__fish_ssegate_using_subcommand doctor" -l json -d 'Print each finding as a line of JSON with level, about, found and mend'
complete -c ssegate -n "__fish_ssegate_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ssegate -n "__fish_ssegate_using_subcommand reload" -l url -d 'The admin listener [default: admin.address of the configuration]' -r -f
complete -c ssegate -n "__fish_ssegate_using_subcommand reload" -s c -l config -d 'The configuration; - reads standard input [default: ./gateway.yaml]' -r -F
complete -c ssegate -n "__fish_ssegate_using_subcommand reload" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ssegate -n "__fish_ssegate_using_subcommand pub" -s e -l event -d 'The event name; sends the message as a JSON envelope, for routes with format: envelope' -r
complete -c ssegate -n "__fish_ssegate_using_subcommand pub" -s i -l id -d 'The event id, also in an envelope; used only by routes with history: off' -r
complete -c ssegate -n "__fish_ssegate_using_subcommand pub" -l redis -d 'Publish to this Redis instead, for example redis://127.0.0.1:6379' -r
complete -c ssegate -n "__fish_ssegate_using_subcommand pub" -s c -l config -d 'The configuration; - reads standard input [default: ./gateway.yaml]' -r -F
complete -c ssegate -n "__fish_ssegate_using_subcommand pub" -l sharded -d 'Publish to a sharded channel (SPUBLISH); by itself where a route of the configuration has `sharded: true`'
complete -c ssegate -n "__fish_ssegate_using_subcommand pub" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ssegate -n "__fish_ssegate_using_subcommand sub" -s n -l count -d 'Exit after N events' -r
complete -c ssegate -n "__fish_ssegate_using_subcommand sub" -l for -d 'Exit after this time, for example 10s; with 1 if fewer than --count events were received' -r
complete -c ssegate -n "__fish_ssegate_using_subcommand sub" -l since -d 'Begin after the event with this id; or, on a route with source: stream, at a time (2026-05-01T12:00:00Z, or 10m ago: 10m), or with all that Redis has: beginning' -r
complete -c ssegate -n "__fish_ssegate_using_subcommand sub" -l color -d 'Colours: auto are in a terminal, unless NO_COLOR is set' -r -f -a "auto\t'In a terminal, unless `NO_COLOR` is set (<https://no-color.org>)'
always\t'Also in a pipe, such as to `less -R`'
never\t'Nowhere'"
complete -c ssegate -n "__fish_ssegate_using_subcommand sub" -l token -d 'Send this token: Authorization: Bearer [env: SSEGATE_TOKEN]' -r
complete -c ssegate -n "__fish_ssegate_using_subcommand sub" -s H -l header -d 'Send this header, for example "X-Tenant: 7"' -r
complete -c ssegate -n "__fish_ssegate_using_subcommand sub" -s c -l config -d 'The configuration; - reads standard input [default: ./gateway.yaml]' -r -F
complete -c ssegate -n "__fish_ssegate_using_subcommand sub" -l json -d 'Print each event as a line of JSON with from, event, id and data, and at the end the summary on standard error as one'
complete -c ssegate -n "__fish_ssegate_using_subcommand sub" -l insecure -d 'Accept any certificate'
complete -c ssegate -n "__fish_ssegate_using_subcommand sub" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ssegate -n "__fish_ssegate_using_subcommand revoke" -l sub -d 'The user: credentials of this subject that were issued until now' -r
complete -c ssegate -n "__fish_ssegate_using_subcommand revoke" -l token-id -d 'The token with this id (claim jti)' -r
complete -c ssegate -n "__fish_ssegate_using_subcommand revoke" -l session -d 'The tokens of this session (claim sid)' -r
complete -c ssegate -n "__fish_ssegate_using_subcommand revoke" -l channel -d 'The streams that follow this channel or pattern; no credential is refused' -r
complete -c ssegate -n "__fish_ssegate_using_subcommand revoke" -l for -d 'How long it is remembered [default: revocation.remember of the configuration, or 24h]' -r
complete -c ssegate -n "__fish_ssegate_using_subcommand revoke" -l key -d 'The secret that all gateways have [env: SSEGATE_REVOCATION_KEY] [default: revocation.key of the configuration]' -r
complete -c ssegate -n "__fish_ssegate_using_subcommand revoke" -l control-channel -d 'The control channel [default: revocation.control_channel of the configuration]' -r
complete -c ssegate -n "__fish_ssegate_using_subcommand revoke" -l redis -d 'Publish to this Redis instead, for example redis://127.0.0.1:6379' -r
complete -c ssegate -n "__fish_ssegate_using_subcommand revoke" -s c -l config -d 'The configuration; - reads standard input [default: ./gateway.yaml]' -r -F
complete -c ssegate -n "__fish_ssegate_using_subcommand revoke" -l block -d 'With --sub: also credentials that are issued later'
complete -c ssegate -n "__fish_ssegate_using_subcommand revoke" -l all -d 'All tokens that were issued until now, and all streams of routes with auth'
complete -c ssegate -n "__fish_ssegate_using_subcommand revoke" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ssegate -n "__fish_ssegate_using_subcommand token" -l inspect -d 'Print what is in this token instead; - or nothing reads stdin, @FILE a file' -r
complete -c ssegate -n "__fish_ssegate_using_subcommand token" -l key -d 'The secret or private key in PEM that signs; with --inspect the secret or public key that verifies [env: SSEGATE_TOKEN_KEY]' -r
complete -c ssegate -n "__fish_ssegate_using_subcommand token" -l jwks -d 'With --inspect: verify with a key of this JSON Web Key Set' -r -F
complete -c ssegate -n "__fish_ssegate_using_subcommand token" -l alg -d 'The algorithm, for example HS256 or ES256 [default: the usual one of the key]' -r
complete -c ssegate -n "__fish_ssegate_using_subcommand token" -l kid -d 'The id of the key, as a key set has it: header kid' -r
complete -c ssegate -n "__fish_ssegate_using_subcommand token" -l sub -d 'Whose token it is: claim sub' -r
complete -c ssegate -n "__fish_ssegate_using_subcommand token" -l expires -d 'When it expires, from now on: claim exp [default: 1h]' -r
complete -c ssegate -n "__fish_ssegate_using_subcommand token" -l audience -d 'Who it is for: claim aud; may be repeated' -r
complete -c ssegate -n "__fish_ssegate_using_subcommand token" -l issuer -d 'Who issued it: claim iss' -r
complete -c ssegate -n "__fish_ssegate_using_subcommand token" -l claim -d 'Another claim, JSON or else text; may be repeated: --claim org=7 --claim \'channels=["a","b"]\'' -r
complete -c ssegate -n "__fish_ssegate_using_subcommand token" -s c -l config -d 'The configuration; - reads standard input [default: ./gateway.yaml]' -r -F
complete -c ssegate -n "__fish_ssegate_using_subcommand token" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ssegate -n "__fish_ssegate_using_subcommand sign" -l key -d 'The name of the key and its secret, of at least 32 bytes [env: SSEGATE_URL_KEY]' -r
complete -c ssegate -n "__fish_ssegate_using_subcommand sign" -l expires -d 'When it expires, from now on' -r
complete -c ssegate -n "__fish_ssegate_using_subcommand sign" -l method -d 'The method of the request; one for GET serves HEAD, too' -r
complete -c ssegate -n "__fish_ssegate_using_subcommand sign" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ssegate -n "__fish_ssegate_using_subcommand healthcheck" -l url -d 'The admin listener [default: admin.address of the configuration]' -r -f
complete -c ssegate -n "__fish_ssegate_using_subcommand healthcheck" -s c -l config -d 'The configuration; - reads standard input [default: ./gateway.yaml]' -r -F
complete -c ssegate -n "__fish_ssegate_using_subcommand healthcheck" -l ready -d 'Request /readyz (subscribed to Redis and not draining?) instead of /livez'
complete -c ssegate -n "__fish_ssegate_using_subcommand healthcheck" -s h -l help -d 'Print help'
complete -c ssegate -n "__fish_ssegate_using_subcommand metrics" -l url -d 'The admin listener [default: admin.address of the configuration]' -r -f
complete -c ssegate -n "__fish_ssegate_using_subcommand metrics" -s c -l config -d 'The configuration; - reads standard input [default: ./gateway.yaml]' -r -F
complete -c ssegate -n "__fish_ssegate_using_subcommand metrics" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ssegate -n "__fish_ssegate_using_subcommand completions" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ssegate -n "__fish_ssegate_using_subcommand man" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ssegate -n "__fish_ssegate_using_subcommand schema" -s h -l help -d 'Print help'
complete -c ssegate -n "__fish_ssegate_using_subcommand help; and not __fish_seen_subcommand_from run dev check doctor reload pub sub revoke token sign healthcheck metrics completions man schema help" -f -a "run" -d 'Run the gateway (the default command)'
complete -c ssegate -n "__fish_ssegate_using_subcommand help; and not __fish_seen_subcommand_from run dev check doctor reload pub sub revoke token sign healthcheck metrics completions man schema help" -f -a "dev" -d 'Run without configuration: embedded bus, self-signed certificate, demo page'
complete -c ssegate -n "__fish_ssegate_using_subcommand help; and not __fish_seen_subcommand_from run dev check doctor reload pub sub revoke token sign healthcheck metrics completions man schema help" -f -a "check" -d 'Check the configuration and print every error in it'
complete -c ssegate -n "__fish_ssegate_using_subcommand help; and not __fish_seen_subcommand_from run dev check doctor reload pub sub revoke token sign healthcheck metrics completions man schema help" -f -a "doctor" -d 'Try what the configuration promises, and say what to do'
complete -c ssegate -n "__fish_ssegate_using_subcommand help; and not __fish_seen_subcommand_from run dev check doctor reload pub sub revoke token sign healthcheck metrics completions man schema help" -f -a "reload" -d 'Reload the configuration of the running gateway'
complete -c ssegate -n "__fish_ssegate_using_subcommand help; and not __fish_seen_subcommand_from run dev check doctor reload pub sub revoke token sign healthcheck metrics completions man schema help" -f -a "pub" -d 'Publish a message'
complete -c ssegate -n "__fish_ssegate_using_subcommand help; and not __fish_seen_subcommand_from run dev check doctor reload pub sub revoke token sign healthcheck metrics completions man schema help" -f -a "sub" -d 'Follow event streams and print their events'
complete -c ssegate -n "__fish_ssegate_using_subcommand help; and not __fish_seen_subcommand_from run dev check doctor reload pub sub revoke token sign healthcheck metrics completions man schema help" -f -a "revoke" -d 'Revoke credentials'
complete -c ssegate -n "__fish_ssegate_using_subcommand help; and not __fish_seen_subcommand_from run dev check doctor reload pub sub revoke token sign healthcheck metrics completions man schema help" -f -a "token" -d 'Mint a JSON Web Token, or print what is in one'
complete -c ssegate -n "__fish_ssegate_using_subcommand help; and not __fish_seen_subcommand_from run dev check doctor reload pub sub revoke token sign healthcheck metrics completions man schema help" -f -a "sign" -d 'Sign a URL'
complete -c ssegate -n "__fish_ssegate_using_subcommand help; and not __fish_seen_subcommand_from run dev check doctor reload pub sub revoke token sign healthcheck metrics completions man schema help" -f -a "healthcheck" -d 'Exit with 0 if the gateway is alive (or ready)'
complete -c ssegate -n "__fish_ssegate_using_subcommand help; and not __fish_seen_subcommand_from run dev check doctor reload pub sub revoke token sign healthcheck metrics completions man schema help" -f -a "metrics" -d 'Print the metrics of a running gateway'
complete -c ssegate -n "__fish_ssegate_using_subcommand help; and not __fish_seen_subcommand_from run dev check doctor reload pub sub revoke token sign healthcheck metrics completions man schema help" -f -a "completions" -d 'Print completions for a shell'
complete -c ssegate -n "__fish_ssegate_using_subcommand help; and not __fish_seen_subcommand_from run dev check doctor reload pub sub revoke token sign healthcheck metrics completions man schema help" -f -a "man" -d 'Print the manual page'
complete -c ssegate -n "__fish_ssegate_using_subcommand help; and not __fish_seen_subcommand_from run dev check doctor reload pub sub revoke token sign healthcheck metrics completions man schema help" -f -a "schema" -d 'Print the JSON Schema (draft-07) of gateway.yaml, for editors'
complete -c ssegate -n "__fish_ssegate_using_subcommand help; and not __fish_seen_subcommand_from run dev check doctor reload pub sub revoke token sign healthcheck metrics completions man schema help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
