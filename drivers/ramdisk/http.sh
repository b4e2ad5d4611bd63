# shellcheck shell=dash
# HTTP requests of the agent. Sourced by agent.sh, which sets BASE_URL.
# A request fails with 1 (not delivered, no answer, or the service cannot answer now: HTTP 5xx) or 2 (refused: session or token is not valid) or 3 (any other HTTP error).

REQUEST_TIMEOUT_S=60

# http_post PATH BEARER BODY_FILE ANSWER_FILE
http_post() {
    timeout "$REQUEST_TIMEOUT_S" wget -q -O "$4" \
        --header "Authorization: Bearer $2" --header "Content-Type: text/plain; charset=utf-8" \
        --post-file "$3" "$BASE_URL$1" 2>/run/http.error
    _http_outcome $?
}

# http_get URL BEARER ANSWER_FILE
http_get() {
    timeout "$REQUEST_TIMEOUT_S" wget -q -O "$3" --header "Authorization: Bearer $2" "$1" 2>/run/http.error
    _http_outcome $?
}

_http_outcome() {
    [ "$1" -eq 0 ] && return 0
    if grep -q "server returned error: HTTP/[0-9.]* 40[13]" /run/http.error; then
        return 2
    fi
    if grep -q "server returned error: HTTP/[0-9.]* 5" /run/http.error; then
        return 1
    fi
    if grep -q "server returned error" /run/http.error; then
        return 3
    fi
    [ -s /run/http.error ] || echo "no answer within $REQUEST_TIMEOUT_S s" >/run/http.error
    return 1
}

# The cause of the last failure, on one line.
http_cause() {
    tr '\n' ' ' </run/http.error | sed 's/^wget: //; s/ *$//'
}

# answer_value KEY FILE: the value of a `key=value` line
answer_value() {
    sed -n "s/^$1=//p" "$2" | head -n 1 | tr -d '\r'
}
