"""Certificates of an own authority, users, and tokens: what the listeners of a secured broker ask for, and what clients show."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

USER, PASSWORD = "alice", "alice-secret"
AUDIENCE = "kafka"
DAYS = "3650"
MODULES = "org.apache.kafka.common.security"


@dataclass(frozen=True)
class Listener:
    """One way to be let in."""

    protocol: str
    mechanism: str | None = None


LISTENERS = {
    "TLS": Listener("SSL"),
    "MTLS": Listener("SSL"),
    "PLAIN": Listener("SASL_SSL", "PLAIN"),
    "SCRAM256": Listener("SASL_SSL", "SCRAM-SHA-256"),
    "SCRAM512": Listener("SASL_PLAINTEXT", "SCRAM-SHA-512"),
    "OAUTH": Listener("SASL_SSL", "OAUTHBEARER"),
    "OIDC": Listener("SASL_SSL", "OAUTHBEARER"),
}
"""OAUTH takes unsecured JSON web tokens (alg none); OIDC takes tokens that are signed with the key of `Security.token`."""

SCRAM_USERS = [f"SCRAM-SHA-{bits}=[name={USER},password={PASSWORD}]" for bits in (256, 512)]


class Security:
    """The files of a secured broker, made once in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = folder / "authority.pem"
        self.certificate = folder / "client.pem"
        self.key = folder / "client.key"
        if not (folder / "jwks.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            self._make()

    def properties(self) -> dict[str, str]:
        """The broker's side."""
        found = {
            "listener.security.protocol.map": ",".join(f"{name}:{each.protocol}" for name, each in LISTENERS.items()),
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.folder / "broker.pem"),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.authority),
            "listener.name.mtls.ssl.client.auth": "required",
        }
        for name, each in LISTENERS.items():
            if each.mechanism is not None:
                found[f"listener.name.{name.lower()}.sasl.enabled.mechanisms"] = each.mechanism
                found[f"listener.name.{name.lower()}.{each.mechanism.lower()}.sasl.jaas.config"] = _login(each.mechanism)
        oidc = "listener.name.oidc.oauthbearer.sasl"
        found[f"{oidc}.server.callback.handler.class"] = f"{MODULES}.oauthbearer.OAuthBearerValidatorCallbackHandler"
        found["listener.name.oidc.sasl.oauthbearer.jwks.endpoint.url"] = self._keys_url
        found["listener.name.oidc.sasl.oauthbearer.expected.audience"] = AUDIENCE
        return found

    def java_options(self) -> list[str]:
        """What the broker's Java must be told: Kafka reads keys only from where it is allowed to."""
        return [f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={self._keys_url}"]

    def client(self, listener: str) -> dict[str, str]:
        """The settings of librdkafka for a listener. OAUTH: with librdkafka's own unsecured token (for a callback leave out
        what begins with `enable.` and `sasl.oauthbearer.`). OIDC: without the way to the token, see `token`."""
        each = LISTENERS[listener]
        found = {"security.protocol": each.protocol}
        if "SSL" in each.protocol:
            found["ssl.ca.location"] = str(self.authority)
        if listener == "MTLS":
            found |= {"ssl.certificate.location": str(self.certificate), "ssl.key.location": str(self.key)}
        if each.mechanism is not None:
            found["sasl.mechanism"] = each.mechanism
        if each.mechanism not in (None, "OAUTHBEARER"):
            found |= {"sasl.username": USER, "sasl.password": PASSWORD}
        if listener == "OAUTH":
            found |= {"enable.sasl.oauthbearer.unsecure.jwt": "true", "sasl.oauthbearer.config": f"principal={USER}"}
        return found

    def token(self, *, signed: bool, lifetime: float = 3600, subject: str = USER) -> tuple[str, float]:
        """A JSON web token, and when it expires (s since the epoch): what librdkafka's callback must return."""
        now = time.time()
        expires = now + lifetime
        header = {"alg": "RS256", "kid": "1", "typ": "JWT"} if signed else {"alg": "none"}
        claims = {"sub": subject, "iat": now, "exp": expires, "aud": AUDIENCE, "scope": "kafka"}
        head = ".".join(_base64(json.dumps(part).encode()) for part in (header, claims))
        signature = self._sign(head.encode()) if signed else b""
        return f"{head}.{_base64(signature)}", expires

    @property
    def _keys_url(self) -> str:
        return (self.folder / "jwks.json").as_uri()

    def _sign(self, message: bytes) -> bytes:
        return _openssl("dgst", "-sha256", "-sign", str(self.folder / "token.key"), input_=message)

    def _make(self) -> None:
        folder, ca, ca_key = self.folder, str(self.authority), str(self.folder / "authority.key")
        new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        _openssl(*new, "-x509", "-days", DAYS, "-subj", "/CN=kappa tests", "-keyout", ca_key, "-out", ca)
        for name, extension in (
            ("broker", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
            ("client", "keyUsage=digitalSignature"),
        ):
            key, request, about, made = (str(folder / f"{name}.{ending}") for ending in ("key", "csr", "ext", "pem"))
            Path(about).write_text(extension + "\n")
            _openssl(*new, "-subj", f"/CN={name}", "-keyout", key, "-out", request)
            sign = ["x509", "-req", "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-days", DAYS]
            _openssl(*sign, "-in", request, "-extfile", about, "-out", made)
        broker = folder / "broker.pem"
        broker.write_text((folder / "broker.key").read_text() + broker.read_text() + self.authority.read_text())
        _openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", str(folder / "token.key"))
        modulus = _openssl("rsa", "-in", str(folder / "token.key"), "-noout", "-modulus").decode().strip().split("=")[1]
        key = {"kty": "RSA", "kid": "1", "use": "sig", "alg": "RS256", "n": _base64(bytes.fromhex(modulus)), "e": "AQAB"}
        (folder / "jwks.json").write_text(json.dumps({"keys": [key]}))


def _login(mechanism: str) -> str:
    """The broker's JAAS entry."""
    if mechanism == "PLAIN":
        return f'{MODULES}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
    if mechanism == "OAUTHBEARER":
        return f'{MODULES}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";'
    return f"{MODULES}.scram.ScramLoginModule required;"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _openssl(*words: str, input_: bytes | None = None) -> bytes:
    done = subprocess.run(["openssl", *words], input=input_, capture_output=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {words[0]} failed: {done.stderr.decode().strip()}")
    return done.stdout


class TokenEndpoint(ThreadingHTTPServer):
    """An OpenID Connect token endpoint on 127.0.0.1 that gives a signed token to whoever knows the user's password."""

    daemon_threads = True

    def __init__(self, security: Security) -> None:
        super().__init__(("127.0.0.1", 0), _Tokens)
        self.security = security
        threading.Thread(target=self.serve_forever, daemon=True, name="token endpoint").start()

    def client(self) -> dict[str, str]:
        """The settings that librdkafka needs besides those of the listener OIDC."""
        return {
            "sasl.oauthbearer.method": "oidc",
            "sasl.oauthbearer.client.id": USER,
            "sasl.oauthbearer.client.secret": PASSWORD,
            "sasl.oauthbearer.token.endpoint.url": f"http://127.0.0.1:{self.server_address[1]}/token",
        }

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Tokens(BaseHTTPRequestHandler):
    server: TokenEndpoint

    def do_POST(self) -> None:
        """The grant of client credentials."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        known = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {known}":
            self.send_error(401)
            return
        token, expires = self.server.security.token(signed=True)
        answer = {"access_token": token, "token_type": "Bearer", "expires_in": int(expires - time.time())}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""
