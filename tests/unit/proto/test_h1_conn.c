// SPDX-License-Identifier: Apache-2.0
//
// Scripts: each step is a letter and what belongs to it.
//   i BYTES   input            h/H HEAD  send a head, H: and no more    s TEXT  events since the
//   last s d/D TEXT  send data        t F=V     send trailers                  o BYTES output since
//   the last o e         end of input     c         cut of input                   r reset   x
//   drain ? FLAGS   state: I idle, H in a head, O can open, T tunnel, R has a response, F wants
//   FIN,
//             N wants to read, C wants to close, X and it is cut
//   ! ERR     send a reply for that error by name    - ERR HEAD  a head that is refused
#include "common/proto/h1_conn.h"

#include <stdio.h>

#include "tests/unit/proto/h1_harness.h"

enum { STEPS_MAX = 24 };

struct script {
    const char *name;
    const char *steps[STEPS_MAX];
};

#define GET_A "GET /a HTTP/1.1\r\nhost: h\r\n\r\n"
#define HEAD_A "HEAD /a HTTP/1.1\r\nhost: h\r\n\r\n"
#define UPGRADE_A "GET /a HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
#define OK_0 "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
#define CLOSED_0 "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
#define CHUNKED_HEAD "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
#define ANSWER_101                                                                                 \
    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
#define REPLY_400                                                                                  \
    "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 11\r\n"               \
    "connection: close\r\n\r\nBad Request"

static const struct script server_scripts[] = {
    {"keep-alive",
     {"? IN", "i GET /a HT", "? HN", "i TP/1.1\r\nhost: h\r\n\r\n", "s GET h /a.", "? N", "H 200",
      "s $#", "o " OK_0, "? IN", "i " GET_A, "s GET h /a.", "H 200", "s $#", "o " OK_0}},
    {"close",
     {"i GET /a HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n" GET_A, "s GET h /a.", "H 200",
      "o " CLOSED_0, "s $#", "? IC"}},
    {"1.0 closes",
     {"i GET /a HTTP/1.0\r\n\r\n", "s GET  /a=1.0.", "h 200", "d abc", "D ",
      "o HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc", "s $#", "? IC"}},
    {"1.0 keeps alive",
     {"i GET /a HTTP/1.0\r\nconnection: keep-alive\r\n\r\n", "s GET  /a=1.0.", "H 200",
      "o HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive\r\n\r\n", "s $#", "? IN"}},
    {"1.0 gets no 1xx",
     {"i GET /a HTTP/1.0\r\n\r\n", "s GET  /a=1.0.", "h 100", "o ", "H 200", "o " CLOSED_0,
      "s $#"}},
    {"chunked out",
     {"i " GET_A, "s GET h /a.", "h 200", "d abc", "o " CHUNKED_HEAD "3\r\nabc\r\n", "d ", "o ",
      "s ", "D de", "o 2\r\nde\r\n0\r\n\r\n", "s $#", "? IN"}},
    {"trailers out",
     {"i " GET_A, "s GET h /a.", "h 200", "t a=b", "o " CHUNKED_HEAD "0\r\na: b\r\n\r\n", "s $#"}},
    {"length out",
     {"i " GET_A, "s GET h /a.", "h 200{content-length=3}", "d ab", "s ", "D c",
      "o HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", "s $#", "? IN"}},
    {"length out, too short",
     {"i " GET_A, "s GET h /a.", "h 200{content-length=3}", "D ab", "s !LENGTH_MISMATCH$#",
      "? ICX"}},
    {"length out, too long",
     {"i " GET_A, "s GET h /a.", "h 200{content-length=3}", "d abcd", "s !LENGTH_MISMATCH$#",
      "o HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", "? ICX"}},
    {"refused heads",
     {"i " GET_A, "s GET h /a.", "- LENGTH_MISMATCH 200{content-length=3}",
      "- BAD_LENGTH 200{content-length=3, 4}", "- BAD_VALUE 200{a=b\r\nc: d}",
      "- BAD_SWITCH 101^websocket", "o ", "? N", "H 503",
      "o HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", "s $#"}},
    {"HEAD",
     {"i " HEAD_A, "s HEAD h /a.", "h 200{content-length=3}", "d abc", "D ",
      "o HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", "s $#", "? IN"}},
    {"HEAD without length",
     {"i " HEAD_A, "s HEAD h /a.", "h 200", "D abc", "o HTTP/1.1 200 OK\r\n\r\n", "s $#", "? IN"}},
    {"204 and 304",
     {"i " GET_A GET_A, "s GET h /a.", "h 204", "D abc", "o HTTP/1.1 204 No Content\r\n\r\n",
      "s $#GET h /a.", "H 304{content-length=9}",
      "o HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", "s $#", "? IN"}},
    {"pipelining waits",
     {"i " GET_A "GET /b HTTP/1.1\r\nhost: h\r\n\r\nGET /c", "s GET h /a.", "? ", "h 200", "s ",
      "D ", "s $#GET h /b.", "? ", "H 200", "s $#", "? HN", "i  HTTP/1.1\r\nhost: h\r\n\r\n",
      "s GET h /c.", "H 200", "s $#"}},
    {"body",
     {"i POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\nab",
      "s POST h /a{content-length=5}<ab>", "i cde", "s <cde>.", "H 200", "s $#", "? IN"}},
    {"response while the body comes",
     {"i POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\nab", "h 200", "d x", "i cd", "D y",
      "s POST h /a{content-length=4}<abcd>.$#", "? IN",
      "o " CHUNKED_HEAD "1\r\nx\r\n1\r\ny\r\n0\r\n\r\n"}},
    {"early response, rest is read",
     {"i POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\nab", "H 200",
      "s POST h /a{content-length=9}<ab>$", "o " OK_0, "? RN", "i cdefghi", "s #", "? IN",
      "i " GET_A, "s GET h /a."}},
    {"early response, chunked rest",
     {"i POST /a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked"
      "\r\n\r\n1\r\na\r\n",
      "H 200", "s POST h /a<a>$", "i 2\r\nbc\r\n0\r\nx: y\r\n\r\n" GET_A, "s #GET h /a."}},
    {"early response, bad rest",
     {"i POST /a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked"
      "\r\n\r\n1\r\na\r\n",
      "H 200", "s POST h /a<a>$", "i zz", "s #", "? IC"}},
    {"early response, too much rest",
     {"i POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 999\r\n\r\n", "H 200",
      "s POST h /a{content-length=999}$#", "? IC"}},
    {"early response, end of input",
     {"i POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\nab", "H 200",
      "s POST h /a{content-length=9}<ab>$", "e", "s #", "? IC"}},
    {"100-continue",
     {"i POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\nexpect: 100-continue"
      "\r\n\r\n",
      "s POST h /a{content-length=2|expect=100-continue}?100", "h 100",
      "o HTTP/1.1 100 Continue\r\n\r\n", "i ab", "s <ab>.", "H 200", "o " OK_0, "s $#", "? IN"}},
    {"100-continue refused",
     {"i POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n"
      "expect: 100-continue\r\n\r\n",
      "s POST h /a{content-length=2|expect=100-continue}?100", "H 200", "o " CLOSED_0, "s $#",
      "? IC"}},
    {"100-continue, body comes unasked",
     {"i POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n"
      "expect: 100-continue\r\n\r\na",
      "s POST h /a{content-length=2|expect=100-continue}?100<a>", "H 200", "o " OK_0, "i b", "s $#",
      "? IN"}},
    {"1xx repeat",
     {"i " GET_A, "s GET h /a.", "h 103{a=b}", "h 103{a=c}", "H 200",
      "o HTTP/1.1 103 Early Hints\r\na: b\r\n\r\nHTTP/1.1 103 Early Hints\r\na: c\r\n"
      "\r\n" OK_0,
      "s $#"}},
    {"upgrade",
     {"i " UPGRADE_A "early", "s GET h /a^websocket", "? ", "h 101^websocket", "o " ANSWER_101,
      "s <early>", "? TRN", "i more", "s <more>", "d down", "o down", "e", "s .", "? TR", "D end",
      "o end", "s $#", "? ITC"}},
    {"upgrade, we end first",
     {"i " UPGRADE_A, "s GET h /a^websocket", "h 101^websocket", "D bye", "o " ANSWER_101 "bye",
      "s $", "? TRNF", "i more", "s <more>", "e", "s .#", "? ITC"}},
    {"upgrade, cut",
     {"i " UPGRADE_A, "s GET h /a^websocket", "h 101^websocket", "c", "s !TRUNCATED", "r", "s #",
      "? ITCX"}},
    {"upgrade refused",
     {"i " UPGRADE_A "frames", "s GET h /a^websocket", "H 403",
      "o HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", "s .$#",
      "? IC"}},
    {"error in the head",
     {"i GET /a HTTP/1.1\r\nhost : h\r\n\r\n", "s !SPACE_BEFORE_COLON", "? ",
      "! SPACE_BEFORE_COLON", "o " REPLY_400, "s $#", "? IC"}},
    {"error of HEAD",
     {"i HEAD /a HTTP/1.1\r\nhost : h\r\n\r\n", "s !SPACE_BEFORE_COLON", "! SPACE_BEFORE_COLON",
      "o HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\n"
      "content-length: 11\r\nconnection: close\r\n\r\n",
      "s $#"}},
    {"error, own answer",
     {"i BAD\r\n", "s !BAD_REQUEST_LINE", "H 400{server=x}",
      "o HTTP/1.1 400 Bad Request\r\nserver: x\r\ncontent-length: 0\r\n"
      "connection: close\r\n\r\n",
      "s $#", "? IC"}},
    {"error without an answer", {"i BAD\r\n", "s !BAD_REQUEST_LINE", "r", "s #", "? ICX"}},
    {"error in the body",
     {"i POST /a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\nx",
      "s POST h /a!BAD_CHUNK_SIZE", "! BAD_CHUNK_SIZE", "o " REPLY_400, "s $#", "? IC"}},
    {"error in the body, response is out",
     {"i POST /a HTTP/1.1\r\nhost: h\r\n"
      "transfer-encoding: chunked\r\n\r\n",
      "h 200", "i x", "s POST h /a!BAD_CHUNK_SIZE", "? R", "! BAD_CHUNK_SIZE", "o " CHUNKED_HEAD,
      "r", "s #", "? ICX"}},
    {"error in the body, response goes on",
     {"i POST /a HTTP/1.1\r\nhost: h\r\n"
      "transfer-encoding: chunked\r\n\r\n",
      "h 200", "i x", "s POST h /a!BAD_CHUNK_SIZE", "D y", "o " CHUNKED_HEAD "1\r\ny\r\n0\r\n\r\n",
      "s $#", "? IC"}},
    {"connect",
     {"i CONNECT h:1 HTTP/1.1\r\nhost: h:1\r\n\r\nbytes", "s !CONNECT", "! CONNECT",
      "o HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", "s $#",
      "? IC"}},
    {"end of input, idle", {"e", "s ", "? IC"}},
    {"end of input in a head", {"i GET", "e", "s !TRUNCATED", "r", "s #", "? ICX"}},
    {"end of input in a body",
     {"i POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\nab", "e",
      "s POST h /a{content-length=5}<ab>!TRUNCATED", "? ", "H 200", "s $#", "? IC"}},
    {"half-close",
     {"i " GET_A GET_A, "e", "s GET h /a.", "H 200", "s $#GET h /a.", "H 200", "s $#", "? IC"}},
    {"reset",
     {"i " GET_A GET_A, "s GET h /a.", "h 200", "d abc", "o " CHUNKED_HEAD "3\r\nabc\r\n", "r",
      "s #", "? ICX", "i " GET_A, "s "}},
    {"reset of a complete response",
     {"i POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\n", "H 200", "o " OK_0,
      "s POST h /a{content-length=9}$", "r", "s #", "? IC"}},
    {"reset while idle", {"r", "s ", "? IC"}},
    {"drain while idle", {"x", "? INC"}},
    {"drain", {"i " GET_A, "s GET h /a.", "x", "? N", "H 200", "o " CLOSED_0, "s $#", "? IC"}},
    {"drain behind the head",
     {"i " GET_A GET_A, "s GET h /a.", "h 200", "x", "D ", "s $#", "? IC"}},
    {"late calls do nothing",
     {"i " GET_A, "H 200", "s GET h /a.$#", "H 404", "d x", "D y", "t a=b", "! BAD_PATH", "o " OK_0,
      "s "}},
};

static const struct script client_scripts[] = {
    {"keep-alive",
     {"? ION", "H GET h /a", "o " GET_A, "s $", "? N", "i " OK_0, "s 200{content-length=0}.#",
      "? ION", "H GET h /a", "o " GET_A, "i " OK_0, "s $200{content-length=0}.#"}},
    {"bodies",
     {"h PUT h /a{content-length=3}", "d abc", "D ",
      "o PUT /a HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\nabc",
      "i HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nx", "s $200{content-length=2}<x>", "i y",
      "s <y>.#", "? ION"}},
    {"chunked both ways",
     {"h PUT h /a", "d abc", "t x=y",
      "o PUT /a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n"
      "3\r\nabc\r\n0\r\nx: y\r\n\r\n",
      "i " CHUNKED_HEAD "1\r\nz\r\n0\r\nt: u\r\n\r\n", "s $200<z>{t=u}.#", "? ION"}},
    {"until close",
     {"H GET h /a", "i HTTP/1.1 200 OK\r\n\r\nabc", "s $200<abc>", "e", "s .#", "? IC"}},
    {"until close, cut",
     {"H GET h /a", "i HTTP/1.1 200 OK\r\n\r\nabc", "s $200<abc>", "c", "s !TRUNCATED#", "? IC"}},
    {"until close, empty", {"H GET h /a", "i HTTP/1.1 200 OK\r\n\r\n", "e", "s $200.#", "? IC"}},
    {"length, cut",
     {"H GET h /a", "i HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab", "e",
      "s $200{content-length=5}<ab>!TRUNCATED#", "? IC"}},
    {"chunked, cut",
     {"H GET h /a", "i " CHUNKED_HEAD "1\r\na\r\n0\r\n", "e", "s $200<a>!TRUNCATED#", "? IC"}},
    {"no response", {"H GET h /a", "s $", "e", "s !NO_RESPONSE#", "? IC"}},
    {"cut head", {"H GET h /a", "i HTTP/1.1 2", "e", "s $!TRUNCATED#", "? IC"}},
    {"cut behind 1xx",
     {"H GET h /a", "i HTTP/1.1 103 X\r\n\r\n", "e", "s $~103!TRUNCATED#", "? IC"}},
    {"no response, request is not out", {"h PUT h /a", "d x", "e", "s !NO_RESPONSE#", "? ICX"}},
    {"HEAD",
     {"H HEAD h /a", "o " HEAD_A, "i HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
      "s $200{content-length=5}.#", "? ION", "H GET h /a",
      "i HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx", "s $200{content-length=1}<x>.#"}},
    {"HEAD, chunked", {"H HEAD h /a", "i " CHUNKED_HEAD, "s $200.#", "? ION"}},
    {"204 and 304",
     {"H GET h /a", "i HTTP/1.1 204 X\r\n\r\n", "s $204.#", "H GET h /a",
      "i HTTP/1.1 304 X\r\ncontent-length: 5\r\n\r\n", "s $304{content-length=5}.#", "? ION"}},
    {"1xx",
     {"h PUT h /a{expect=100-continue}", "s ", "i HTTP/1.1 100 Continue\r\n\r\n", "s ~100", "D x",
      "s $", "i HTTP/1.1 103 X\r\na: b\r\n\r\n" OK_0, "s ~103{a=b}200{content-length=0}.#",
      "? ION"}},
    {"too many 1xx",
     {"H GET h /a", "i HTTP/1.1 100 X\r\n\r\nHTTP/1.1 100 X\r\n\r\n",
      "i HTTP/1.1 100 X\r\n\r\nHTTP/1.1 100 X\r\n\r\n", "s $~100~100~100!TOO_MANY_1XX#", "? IC"}},
    {"close", {"H GET h /a", "i " CLOSED_0, "s $200{content-length=0}.#", "? IC"}},
    {"1.0",
     {"H GET h /a", "i HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
      "s $200{content-length=0}=1.0.#", "? IC"}},
    {"bytes behind the response",
     {"H GET h /a", "i " OK_0 OK_0, "s $200{content-length=0}.#!UNSOLICITED", "? IC"}},
    {"bytes while idle", {"i H", "s !UNSOLICITED", "? IC"}},
    {"408 while idle",
     {"H GET h /a", "i " OK_0, "s $200{content-length=0}.#",
      "i HTTP/1.1 408 Request Timeout\r\n\r\n", "s !UNSOLICITED", "? IC"}},
    {"end while idle", {"H GET h /a", "i " OK_0, "s $200{content-length=0}.#", "e", "s ", "? IC"}},
    {"bad response",
     {"H GET h /a", "i HTTP/1.1 200 OK\r\na : b\r\n\r\n", "s $!SPACE_BEFORE_COLON#", "? IC"}},
    {"both framings",
     {"H GET h /a", "i HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
      "s $!LENGTH_AND_CODING#", "? IC"}},
    {"response before the request ended",
     {"h PUT h /a", "d abc", "i " OK_0, "s 200{content-length=0}.", "? N", "D d", "s $#",
      "o PUT /a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: "
      "chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n",
      "? ION"}},
    {"response before the request ended, given up",
     {"h PUT h /a", "d abc", "i " OK_0, "s 200{content-length=0}.", "r", "s #", "? ICX"}},
    {"response before the request ended, then more",
     {"h PUT h /a", "i " OK_0 "x", "s 200{content-length=0}.", "D ", "s $#", "? IC"}},
    {"response before the request ended, then the end",
     {"h PUT h /a", "i " OK_0, "e", "s 200{content-length=0}.#", "? ICX"}},
    {"request too short", {"h PUT h /a{content-length=3}", "D ab", "s !LENGTH_MISMATCH#", "? ICX"}},
    {"request too long",
     {"h PUT h /a{content-length=3}", "d abcd", "s !LENGTH_MISMATCH#", "? ICX"}},
    {"refused heads",
     {"- LENGTH_MISMATCH PUT h /a{content-length=3}", "- BAD_VALUE GET h /a b",
      "- BAD_VALUE GET h\r\nx: /a", "? ION"}},
    {"upgrade",
     {"h GET h /a^websocket", "o " UPGRADE_A, "d early", "o ", "s ", "i " ANSWER_101 "hello",
      "o early", "s 101^websocket<hello>", "? TN", "D bye", "o bye", "s $", "? TNF", "e", "s .#",
      "? ITC"}},
    {"upgrade, early end",
     {"h GET h /a^websocket", "D early", "i " ANSWER_101, "s 101^websocket$",
      "o " UPGRADE_A "early", "? TNF", "e", "s .#"}},
    {"upgrade, cut",
     {"h GET h /a^websocket", "i " ANSWER_101 "x", "c", "s 101^websocket<x>!TRUNCATED#", "? ITCX"}},
    {"upgrade refused",
     {"h GET h /a^websocket", "d early",
      "i HTTP/1.1 403 X\r\ncontent-length: 2"
      "\r\n\r\nno",
      "s 403{content-length=2}$<no>.#", "o " UPGRADE_A, "? ION"}},
    {"switch unasked", {"H GET h /a", "i " ANSWER_101, "s $!BAD_SWITCH#", "? IC"}},
    {"reset",
     {"H GET h /a", "s $", "i HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab",
      "s 200{content-length=5}<ab>", "r", "s #", "? IC"}},
    {"drain", {"H GET h /a", "x", "i " OK_0, "s $200{content-length=0}.#", "? IC"}},
    {"drain while idle", {"x", "? INC"}},
};

static enum http_err err_named(const char *name, size_t len) {
    for (int err = 0; err <= HTTP_ERR_LENGTH_MISMATCH; err++) {
        const char *one = http_err_name((enum http_err)err);
        if (strlen(one) == len && memcmp(one, name, len) == 0) {
            return (enum http_err)err;
        }
    }
    fail_msg("no error '%s'", name);
    return HTTP_ERR_OK;
}

static const char *flags_of(const struct h1_conn *conn) {
    static char flags[16];
    bool is_cut = false;
    char *at = flags;
    const struct {
        bool is_set;
        char flag;
    } all[] = {
        {h1_conn_is_idle(conn), 'I'},      {h1_conn_is_in_head(conn), 'H'},
        {h1_conn_can_open(conn), 'O'},     {h1_conn_is_tunnel(conn), 'T'},
        {h1_conn_has_response(conn), 'R'}, {h1_conn_wants_read(conn), 'N'},
        {h1_conn_wants_fin(conn), 'F'},    {h1_conn_wants_close(conn, &is_cut), 'C'},
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        if (all[i].is_set) {
            *at++ = all[i].flag;
        }
    }
    if (h1_conn_wants_close(conn, &is_cut) && is_cut) {
        *at++ = 'X';
    }
    *at = '\0';
    return flags;
}

static void send_trailers(struct h1_bed *bed, const char *text) {
    struct h1_msg msg;
    char head[128];
    snprintf(head, sizeof(head), "200{%s}", text);
    h1_msg_parse(&msg, head);
    h1_conn_send_trailers(bed->conn, msg.fields, msg.head.n_fields);
}

static void refused_head(struct h1_bed *bed, const char *text) {
    struct h1_msg msg;
    enum http_err err = HTTP_ERR_OK;
    const char *space = strchr(text, ' ');
    h1_msg_parse(&msg, space + 1);
    assert_false(h1_conn_send_head(bed->conn, &msg.head, true, &err));
    assert_int_equal(err, err_named(text, (size_t)(space - text)));
}

static void run_step(struct h1_bed *bed, const struct script *script, size_t i, size_t chunk) {
    const char *step = script->steps[i];
    const char *arg = step[1] == ' ' ? step + 2 : "";
    const char *have = NULL;
    switch (step[0]) {
    case 'i':
        h1_bed_feed(bed, slice_str(arg), chunk);
        break;
    case 'h':
    case 'H':
        h1_bed_head(bed, arg, step[0] == 'H');
        break;
    case 'd':
    case 'D':
        h1_bed_data(bed, arg, step[0] == 'D');
        break;
    case 't':
        send_trailers(bed, arg);
        break;
    case 'e':
    case 'c':
        h1_bed_eof(bed, step[0] == 'e');
        break;
    case 'r':
        h1_conn_reset(bed->conn);
        break;
    case 'x':
        h1_conn_drain(bed->conn);
        break;
    case '!':
        h1_conn_send_error(bed->conn, err_named(arg, strlen(arg)));
        break;
    case '-':
        refused_head(bed, arg);
        break;
    case 's':
        h1_bed_run(bed);
        have = h1_bed_seen(bed);
        break;
    case 'o':
        h1_bed_run(bed);
        have = h1_bed_sent(bed);
        break;
    default:
        have = flags_of(bed->conn);
        break;
    }
    if (have != NULL && strcmp(have, arg) != 0) {
        fail_msg("%s, step %zu '%s' in pieces of %zu: '%s'", script->name, i, step, chunk, have);
    }
}

static void run_script(const struct script *script, bool is_server, size_t chunk) {
    struct h1_config config;
    struct h1_bed bed;
    h1_config_init(&config);
    config.drain_max = 100;
    config.max_informational = 3;
    h1_bed_init(&bed, is_server, H1_BED_PASSIVE, &config);
    for (size_t i = 0; i < STEPS_MAX && script->steps[i] != NULL; i++) {
        run_step(&bed, script, i, chunk);
        h1_bed_run(&bed);
    }
    assert_string_equal(h1_bed_seen(&bed), ""); // all of it was expected
    h1_bed_fini(&bed);
}

static void test_server(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(server_scripts); i++) {
        run_script(&server_scripts[i], true, SIZE_MAX);
        run_script(&server_scripts[i], true, 1);
        run_script(&server_scripts[i], true, 3);
    }
}

static void test_client(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(client_scripts); i++) {
        run_script(&client_scripts[i], false, SIZE_MAX);
        run_script(&client_scripts[i], false, 1);
        run_script(&client_scripts[i], false, 3);
    }
}

// ---- caps and credit

static void test_window(void **state) {
    (void)state;
    struct h1_config config;
    struct h1_bed bed;
    h1_config_init(&config);
    config.window = 10;
    h1_bed_init(&bed, true, H1_BED_PASSIVE, &config);
    bed.keeps_unconsumed = true;
    h1_bed_feed(&bed,
                slice_str("POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 30\r\n\r\n123456789"),
                SIZE_MAX);
    assert_true(h1_conn_wants_read(bed.conn));
    h1_bed_feed(&bed, slice_str("0"), SIZE_MAX);
    assert_false(h1_conn_wants_read(bed.conn));
    h1_conn_consumed(bed.conn, 1);
    assert_true(h1_conn_wants_read(bed.conn));
    h1_bed_feed(&bed, slice_str("abcde"), SIZE_MAX); // above it nothing is lost
    assert_false(h1_conn_wants_read(bed.conn));
    h1_conn_consumed(bed.conn, 100); // more than there is
    assert_true(h1_conn_wants_read(bed.conn));
    assert_string_equal(h1_bed_seen(&bed), "POST h /a{content-length=30}<1234567890abcde>");
    h1_bed_fini(&bed);
}

static void test_send_queue(void **state) {
    (void)state;
    struct h1_config config;
    struct h1_bed bed;
    struct h1_event ev;
    struct chain out;
    h1_config_init(&config);
    config.send_queue_max = 100;
    h1_bed_init(&bed, true, H1_BED_PASSIVE, &config);
    chain_init(&out, &bed.pool);
    h1_bed_feed(&bed, slice_str(GET_A), SIZE_MAX);
    h1_bed_head(&bed, "200{content-length=1000}", false);
    assert_true(h1_conn_can_send(bed.conn));
    h1_bed_data(&bed, "12345678901234567890123456789012345678901234567890123456789012345", false);
    assert_false(h1_conn_can_send(bed.conn));
    size_t queued = h1_conn_queued(bed.conn);
    assert_int_equal(h1_conn_pull(bed.conn, &out, queued - 50), queued - 50);
    assert_false(h1_conn_next(bed.conn, &ev)); // half of it is not below half
    assert_int_equal(h1_conn_pull(bed.conn, &out, 1), 1);
    assert_true(h1_conn_next(bed.conn, &ev));
    assert_int_equal(ev.type, H1_EV_WRITABLE);
    assert_false(h1_conn_next(bed.conn, &ev));
    chain_clear(&out);
    h1_bed_fini(&bed);
}

// A response with bytes behind it, as a server that is out of step sends them: they must not become
// the answer to the next request, which a pool would send as soon as it hears CLOSED.
static void test_no_reuse_before_input(void **state) {
    (void)state;
    struct h1_bed bed;
    struct h1_event ev;
    bool is_cut, has_closed = false;
    h1_bed_init(&bed, false, H1_BED_PASSIVE, NULL);
    h1_bed_head(&bed, "GET h /a", true);
    h1_bed_run(&bed);
    struct blk *blk = blk_new_cold(&bed.pool, 200);
    size_t len = strlen(OK_0 OK_0);
    memcpy(blk->base, OK_0 OK_0, len);
    h1_conn_recv(bed.conn, blk, 0, (uint32_t)len);
    blk_unref(blk);
    while (h1_conn_next(bed.conn, &ev)) {
        has_closed |= ev.type == H1_EV_CLOSED;
        assert_false(h1_conn_can_open(bed.conn));
        assert_int_equal(ev.type == H1_EV_ERROR, has_closed && ev.type != H1_EV_CLOSED);
    }
    assert_true(has_closed);
    assert_true(h1_conn_wants_close(bed.conn, &is_cut));
    // Nor does one whose peer has said that it ends.
    h1_bed_fini(&bed);
    h1_bed_init(&bed, false, H1_BED_PASSIVE, NULL);
    assert_true(h1_conn_can_open(bed.conn));
    h1_conn_recv_eof(bed.conn, true);
    assert_false(h1_conn_can_open(bed.conn));
    h1_bed_fini(&bed);
}

// What waits is no hot block, and an idle connection holds nothing.
static void test_memory(void **state) {
    (void)state;
    struct h1_bed bed;
    h1_bed_init(&bed, true, H1_BED_PASSIVE, NULL);
    size_t idle = h1_conn_memory(bed.conn);
    struct h1_event ev;
    struct blk *blk = blk_new_bulk(&bed.pool);
    size_t len = strlen(GET_A GET_A);
    memcpy(blk->base, GET_A GET_A, len);
    h1_conn_recv(bed.conn, blk, 0, (uint32_t)len);
    blk_unref(blk);
    while (h1_conn_next(bed.conn, &ev)) {
        assert_int_not_equal(ev.type, H1_EV_CLOSED);
    }
    assert_int_equal(bed.pool.stats.n_bulk, 0);
    assert_true(bed.pool.stats.cold_bytes >= len / 2);
    for (int i = 0; i < 2; i++) {
        h1_bed_head(&bed, "200", true);
        h1_bed_run(&bed);
    }
    assert_int_equal(bed.pool.stats.cold_bytes, 0);
    assert_int_equal(h1_conn_memory(bed.conn), idle);
    // Trailers too are given back.
    h1_bed_feed(&bed,
                slice_str("POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n"
                          "0\r\na: b\r\n\r\n"),
                SIZE_MAX);
    h1_bed_head(&bed, "200", true);
    h1_bed_run(&bed);
    assert_true(h1_conn_is_idle(bed.conn));
    assert_int_equal(h1_conn_memory(bed.conn), idle);
    h1_bed_fini(&bed);
}

static void test_user(void **state) {
    (void)state;
    struct h1_bed bed;
    h1_bed_init(&bed, true, H1_BED_PASSIVE, NULL);
    assert_null(h1_conn_user(bed.conn));
    h1_conn_set_user(bed.conn, &bed);
    assert_ptr_equal(h1_conn_user(bed.conn), &bed);
    h1_bed_feed(&bed, slice_str("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\nab"), 1);
    h1_bed_fini(&bed); // in the middle of everything
    h1_conn_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_server),
        cmocka_unit_test(test_client),
        cmocka_unit_test(test_window),
        cmocka_unit_test(test_send_queue),
        cmocka_unit_test(test_no_reuse_before_input),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_user),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
