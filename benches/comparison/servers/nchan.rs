//! nginx with Nchan: one worker, as many messages kept as the gateway keeps.

use super::{Running, Site, free_address, redis, words};
use crate::Outcome;
use crate::process::Process;
use crate::publisher::Way;

pub(super) const MODULE: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";

pub(super) fn start(site: &Site, with_redis: bool) -> Outcome<Running> {
    let [plain, tls] = std::array::from_fn(|_| free_address());
    let redis = if with_redis { Some(redis::start(site)?) } else { None };
    let (upstream, pass) = match &redis {
        Some((_, address)) => (
            format!("upstream redis {{ nchan_redis_server redis://{address}; }}"),
            "nchan_redis_pass redis;",
        ),
        None => (String::new(), ""),
    };
    let directory = site.directory.display().to_string();
    let config = site.directory.join("nginx.conf");
    let text = format!(
        "load_module {MODULE};
user root;
daemon off;
worker_processes 1;
worker_rlimit_nofile {files};
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    client_body_buffer_size 256k;
    client_max_body_size 16m;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    http2_max_concurrent_streams 256;
    nchan_shared_memory_size 1024M;
    {upstream}
    server {{
        listen {plain} backlog=4096;
        listen {tls} ssl http2 backlog=4096;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        location ~ ^/pub/(.+)$ {{
            nchan_publisher;
            nchan_channel_id $1;
            nchan_message_buffer_length 1000;
            nchan_message_timeout 5m;
            {pass}
        }}
        location ~ ^/sub/(.+)$ {{
            nchan_subscriber eventsource;
            nchan_channel_id $1;
            nchan_subscriber_first_message newest;
            {pass}
        }}
    }}
}}
",
        files = site.files,
        connections = site.files - 500,
        certificate = site.certificate.certificate.display(),
        key = site.certificate.key.display(),
    );
    std::fs::write(&config, text)?;
    let arguments = words(["-p", &directory, "-c", &config.display().to_string()]);
    let nginx = Process::start("nginx", &site.cores.servers, &site.directory, "nginx", &arguments)?;
    Ok(Running {
        processes: vec![nginx],
        support: redis.into_iter().map(|(redis, _)| redis).collect(),
        plain,
        tls: Some(tls),
        path: "/sub/",
        way: Way::Http,
        publish_at: plain,
        admin: None,
    })
}
