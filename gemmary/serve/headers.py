"""What every response says to browsers: errors and files too."""

from __future__ import annotations

from .asgi import App, Message, Receive, Scope, Send

# Nothing but our own files runs or is asked for, and no other page holds ours in a frame; what a model writes
# cannot become markup past DOMPurify.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types dompurify"
)
SECURITY = {
    b"content-security-policy": POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"permissions-policy": b"camera=(), geolocation=(), microphone=()",
}
NEVER_KEPT = (b"cache-control", b"no-store")


def secured(app: App) -> App:
    """`app` with these headers on all that it answers; what a response says itself about caching counts."""

    async def answering(scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": with_security(list(message.get("headers", ())))}
            await send(message)

        await app(scope, receive, sending if scope["type"] == "http" else send)

    return answering


def with_security(said: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Headers with ours; of the security headers, a stricter one of the response's own stays."""
    names = {name.lower() for name, _ in said}
    kept = [] if NEVER_KEPT[0] in names else [NEVER_KEPT]
    return [*said, *((name, value) for name, value in SECURITY.items() if name not in names), *kept]
