"""Problems under `/v1`, as its clients expect them: OpenAI's error object, from the same table of codes.

Depends on starlette and problems. The message holds fixed text, limits and positions: nothing of the input.
"""

import json
import re

from starlette.responses import Response

from service.problems import KINDS, Problem, response_headers

PREFIX = "/v1/"


def openai_status(code: str) -> int:
    """The HTTP status of a code here: OpenAI's clients know no 422, what they may not repeat is a 400."""
    status = KINDS[code].status
    return 400 if status == 422 else status


def openai_error_response(problem: Problem) -> Response:
    """The answer: `message` for people, `code` stable, `param` the input to blame."""
    param = _param(problem.errors[0].pointer) if problem.errors else None
    sentence = KINDS[problem.code].title
    if "limit" in problem.extensions:
        sentence += f" The limit is {problem.extensions['limit']}."
    if "expected" in problem.extensions:
        sentence += f" Expected: {problem.extensions['expected']}."
    if "known_fields" in problem.extensions:
        sentence += f" Known: {', '.join(problem.extensions['known_fields'])}."
    if "line" in problem.extensions:
        sentence += f" Line {problem.extensions['line']}, column {problem.extensions['column']}."
    if "reason" in problem.extensions:
        sentence += f" Reason: {problem.extensions['reason']}."
    if param is not None:
        more = len(problem.errors) - 1
        sentence += f" At {param}{f' and {more} more' if more else ''}."
    status = openai_status(problem.code)
    error = {"message": sentence, "type": _type(status), "param": param, "code": problem.code}
    return Response(
        json.dumps({"error": error}, ensure_ascii=True),
        status_code=status,
        media_type="application/json",
        headers=response_headers(problem),
    )


def _type(status: int) -> str:
    if status >= 500:
        return "server_error"
    return {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}.get(
        status, "invalid_request_error"
    )


def _param(pointer: str) -> str | None:
    """/input/3 as input[3]."""
    return re.sub(r"/(\d+)", r"[\1]", pointer).lstrip("/").replace("/", ".") or None
