"""The API's documentation at `/docs`: Swagger UI, whose files this server has itself."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response
from fastapi.staticfiles import StaticFiles

router = APIRouter(prefix="/docs", include_in_schema=False)

swagger_ui = StaticFiles(packages=[("fastapi_offline", "static")])
"""The files of Swagger UI, as that package brings them."""

_HEADERS = {
    # the icons of Swagger UI are in its styles, as data
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; "
        "img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",
}

_PAGE = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>framestream: the API</title>
  <link rel="icon" href="page/icon.svg" type="image/svg+xml">
  <link rel="stylesheet" href="docs/files/swagger-ui.css">
  <script src="docs/files/swagger-ui-bundle.js" defer></script>
  <script src="docs/start.js" defer></script>
</head>
<body><main id="api"></main></body>
</html>
"""

_START = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#api",
  deepLinking: true,
  validatorUrl: null, // it would send the document's address elsewhere
});
"""


@router.get("")
def page() -> HTMLResponse:
    """The page."""
    return HTMLResponse(_PAGE, headers=_HEADERS)


@router.get("/start.js")
def start() -> Response:
    """The script that starts Swagger UI. The policy allows none inside the page."""
    return Response(_START, media_type="text/javascript", headers=_HEADERS)
