"""The peer: nginx ending TLS, with mutual TLS to a second nginx beside the origin; with and without auth_request.

Two hops with keep-alive, like ours: what an operator would build by hand. The auth service is an nginx that answers
204 without looking at anything, the cheapest there can be; its CPU counts, because a request cannot do without it.
"""
import os
import subprocess

from process import Group, Process, free_port, wait_tcp


def shell(command, folder):
    subprocess.run(command, shell=True, check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def certificates(folder):
    """A CA, a server certificate and a client certificate, all P-256 like ours."""
    if os.path.exists(f"{folder}/client.crt"):
        return
    shell("openssl ecparam -name prime256v1 -genkey -noout -out peer-ca.key", folder)
    shell("openssl req -x509 -new -key peer-ca.key -subj /CN=peer -days 2 -out peer-ca.pem", folder)
    for name, usage in (("server", "serverAuth"), ("client", "clientAuth")):
        with open(f"{folder}/{name}.ext", "w") as ext:
            ext.write(f"subjectAltName=DNS:peer.localhost\nextendedKeyUsage={usage}\n")
        shell(f"openssl ecparam -name prime256v1 -genkey -noout -out {name}.key", folder)
        shell(f"openssl req -new -key {name}.key -subj /CN={name} -out {name}.csr", folder)
        signing = "-CA peer-ca.pem -CAkey peer-ca.key -CAcreateserial -days 2"
        shell(f"openssl x509 -req -in {name}.csr {signing} -extfile {name}.ext -out {name}.crt", folder)


class Nginx:
    """One nginx with as many workers as the machine has cores."""

    def __init__(self, folder, name, http, port, also=None):
        self.port, self.also = port, also
        home = f"{folder}/{name}"
        os.makedirs(home, exist_ok=True)
        os.chmod(home, 0o777)
        temporary = " ".join(
            f"{kind}_temp_path {home}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        with open(f"{home}/nginx.conf", "w") as config:
            config.write(
                f"daemon off; pid {home}/pid; error_log {home}/error.log; worker_processes auto;\n"
                "worker_rlimit_nofile 16384;\nevents { worker_connections 8192; }\nhttp {\n"
                f"  {temporary}\n  access_log off; sendfile on; tcp_nodelay on; keepalive_requests 100000000;\n"
                "  keepalive_timeout 300s; client_max_body_size 0; proxy_max_temp_file_size 0; server_tokens off;\n"
                f"{http}\n}}\n"
            )
        self.process = Process(["nginx", "-c", f"{home}/nginx.conf", "-e", f"{home}/start.log"], f"{home}/out.log")
        wait_tcp(port)

    def stop(self):
        self.process.stop()
        if self.also:
            self.also.stop()


def origin(folder, programs):
    """What both systems lead to: 200 octets, a gibibyte, and a sink."""
    files = f"{folder}/www"
    os.makedirs(files, exist_ok=True)
    with open(f"{files}/small", "wb") as small:
        small.write(b"x" * 200)
    with open(f"{files}/large", "wb") as large:
        large.truncate(1 << 30)  # sparse: read from memory, not from disk
    os.makedirs(f"{files}/account", exist_ok=True)
    os.link(f"{files}/small", f"{files}/account/small")
    port, sink = free_port(), free_port()
    http = (
        f"  server {{ listen 127.0.0.1:{port} reuseport backlog=4096; root {files};\n"
        f"    location /sink {{ proxy_pass http://127.0.0.1:{sink}; proxy_request_buffering off; }} }}"
    )
    reader = Process([f"{programs}/upstream", "--listen", f"127.0.0.1:{sink}"], f"{folder}/sink.log")
    wait_tcp(sink)
    return Nginx(folder, "origin", http, port, also=reader)


class Pair:
    """nginx (public TLS) → nginx (mutual TLS) → origin."""

    host = "peer.localhost"

    def __init__(self, folder, origin_port, upgrades=False):
        certificates(folder)
        self.roots = f"{folder}/peer-ca.pem"
        inner, plain, with_auth, auth = free_port(), free_port(), free_port(), free_port()
        keepalive = "keepalive 128; keepalive_requests 100000000;"
        forward = 'proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;'
        forward += " proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_request_buffering off;"
        if upgrades:  # every connection is one that switches; what keeps connections to the origin would keep it from it
            forward = forward.replace('Connection ""', "Connection upgrade") + " proxy_set_header Upgrade $http_upgrade;"
        server_tls = f"ssl_certificate {folder}/server.crt; ssl_certificate_key {folder}/server.key;"
        self.inner = Nginx(
            folder,
            "inner",
            f"  upstream origin {{ server 127.0.0.1:{origin_port}; {keepalive} }}\n"
            f"  server {{ listen 127.0.0.1:{inner} ssl backlog=4096; {server_tls} ssl_protocols TLSv1.3;\n"
            f"    ssl_client_certificate {self.roots}; ssl_verify_client on;\n"
            f"    location / {{ {forward} proxy_pass http://origin; }} }}",
            inner,
        )
        self.auth = Nginx(folder, "auth", f"  server {{ listen 127.0.0.1:{auth} reuseport; return 204; }}", auth)
        client_tls = f"proxy_ssl_certificate {folder}/client.crt; proxy_ssl_certificate_key {folder}/client.key;"
        client_tls += f" proxy_ssl_trusted_certificate {self.roots}; proxy_ssl_verify on; proxy_ssl_name {self.host};"
        client_tls += " proxy_ssl_protocols TLSv1.3; proxy_ssl_server_name on;"
        public = f"{server_tls} ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:S:4m;"
        ask = 'proxy_pass http://auth; proxy_pass_request_body off; proxy_set_header Content-Length "";'
        ask += ' proxy_set_header X-Original-URI $request_uri; proxy_http_version 1.1; proxy_set_header Connection "";'
        upstreams = f"  upstream inner {{ server 127.0.0.1:{inner}; {keepalive} }}\n"
        upstreams += f"  upstream auth {{ server 127.0.0.1:{auth}; {keepalive} }}\n"
        self.outer = Nginx(
            folder,
            "outer",
            f"{upstreams}"
            f"  server {{ listen 127.0.0.1:{plain} ssl http2 backlog=4096; {public}\n"
            f"    location / {{ {forward} {client_tls} proxy_pass https://inner; }} }}\n"
            f"  server {{ listen 127.0.0.1:{with_auth} ssl http2 backlog=4096; {public}\n"
            f"    location = /_auth {{ internal; {ask} }}\n"
            "    location / { auth_request /_auth; auth_request_set $user $upstream_http_x_user;\n"
            f"      proxy_set_header X-User $user; {forward} {client_tls} proxy_pass https://inner; }} }}",
            plain,
        )
        base = {"host": self.host, "roots": self.roots, "headers": []}
        self.plain = dict(base, port=plain, path="/small")
        self.with_auth = dict(base, port=with_auth, path="/account/small", headers=["cookie: s=0123456789abcdef"])

    def group(self, auth=False):
        roles = {"outer": self.outer.process.pid, "inner": self.inner.process.pid}
        return Group(dict(roles, auth=self.auth.process.pid) if auth else roles)

    def stop(self):
        for part in (self.outer, self.auth, self.inner):
            part.stop()
