#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The four services of bookinfo, on port 9080.

    bookinfo.py productpage | details | reviews | ratings | storage

productpage makes the HTML of GET /productpage from the answers of details and reviews; POST /login
with a `username` sets a cookie, and that name goes along as the header `end-user`. It asks reviews
twice at most, 3 s each time. reviews v1 has no stars, v2 black ones, v3 red ones, from ratings.
ratings v2 reads them from `storage`, over TCP: a line "name stars" each, until the end.

Environment: VERSION (v1); SERVICES_DOMAIN, behind the services' names; DETAILS_HOSTNAME,
REVIEWS_HOSTNAME, RATINGS_HOSTNAME; MONGO_DB_URL (mongodb://mongodb:27017/test), of which host and
port count; STARS_1, STARS_2 of storage.
"""

import html
import json
import os
import signal
import sys
import urllib.parse

from service import asyncio, call, log, pod_name, run, web

VERSION = os.environ.get("VERSION", "v1")
COOKIE = "session"
STARS = {"v2": "black", "v3": "red"}
BOOK = {"author": "William Shakespeare", "year": 1595, "type": "paperback", "pages": 200,
        "publisher": "PublisherA", "language": "English", "ISBN-10": "1234567890",
        "ISBN-13": "123-1234567890"}
REVIEWS = [("Reviewer1", "Twins, twice, and nobody gets a quiet dinner. I laughed on every page."),
           ("Reviewer2", "Well made and short. The merchant's long speech is the only slow part.")]
ratings = {"Reviewer1": 5, "Reviewer2": 4}


def address(name):
    domain = os.environ.get("SERVICES_DOMAIN", "")
    host = os.environ.get(f"{name.upper()}_HOSTNAME", name)
    return f"http://{host}{'.' + domain if domain else ''}:9080"


async def ask(request, url, timeout, tries=1, **more):
    """The answer's JSON, or None and the status that stands for what went wrong."""
    status = 500
    for _ in range(tries):
        try:
            status, body = await call(request, url, timeout, **more)
            if status == 200:
                return json.loads(body), 200
        except (OSError, ValueError, asyncio.TimeoutError) as error:
            log(f"{url}: {error or 'timeout'}")
            status = 500
    return None, status


# productpage


def user_of(request):
    return request.cookies.get(COOKIE)


async def get_details(request):
    return await ask(request, address("details") + "/details/0", 3.0, end_user=user_of(request))


async def get_reviews(request):
    return await ask(request, address("reviews") + "/reviews/0", 3.0, 2, end_user=user_of(request))


def details_html(details):
    if details is None:
        return ("<h4>Error fetching product details!</h4>\n"
                "<p>Sorry, product details are currently unavailable for this book.</p>")
    rows = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(str(details[key]))}</dd>\n"
                   for name, key in (("Type", "type"), ("Pages", "pages"), ("Language", "language"),
                                     ("Publisher", "publisher"), ("ISBN-10", "ISBN-10"))
                   if key in details)
    return f"<h4>Book Details</h4>\n<dl>\n{rows}</dl>"


def rating_html(rating):
    if rating is None:
        return ""
    if "error" in rating:
        return f"<p><i>{html.escape(rating['error'])}</i></p>\n"
    star = '<span class="glyphicon glyphicon-star"></span>'
    empty = '<span class="glyphicon glyphicon-star-empty"></span>'
    n = rating["stars"]
    return f'<font color="{rating["color"]}">{star * n}{empty * (5 - n)}</font>\n'


def reviews_html(reviews):
    if reviews is None:
        return ("<h4>Error fetching product reviews!</h4>\n"
                "<p>Sorry, product reviews are currently unavailable for this book.</p>")
    quotes = "".join(f"<blockquote><p>{html.escape(r['text'])}</p>"
                     f"<small>{html.escape(r['reviewer'])}</small>\n"
                     f"{rating_html(r.get('rating'))}</blockquote>\n" for r in reviews["reviews"])
    return f"<h4>Book Reviews</h4>\n{quotes}<dl><dt>Reviews served by:</dt>" \
           f"<u>{html.escape(reviews['podname'])}</u></dl>"


async def product_page(request):
    details, _ = await get_details(request)
    reviews, _ = await get_reviews(request)
    user = user_of(request)
    who = f'{html.escape(user)} (<a href="logout">sign out</a>)' if user else \
        '<form method="post" action="login"><input name="username"><button>Sign in</button></form>'
    return web.Response(content_type="text/html", text=f"""<!DOCTYPE html>
<html><head><title>Simple Bookstore App</title></head>
<body>
<p>{who}</p>
<h3>The Comedy of Errors</h3>
{details_html(details)}
{reviews_html(reviews)}
</body></html>
""")


async def index(_request):
    return web.Response(content_type="text/html", text="""<!DOCTYPE html>
<html><head><title>Simple Bookstore App</title></head>
<body><h3>Bookinfo</h3><p><a href="/productpage?u=normal">Normal user</a>
<a href="/productpage?u=test">Test user</a></p></body></html>
""")


async def login(request):
    form = await request.post()
    answer = web.Response(status=302, headers={"Location": "/productpage"})
    answer.set_cookie(COOKIE, str(form.get("username", "")))
    return answer


async def logout(_request):
    answer = web.Response(status=302, headers={"Location": "/productpage"})
    answer.del_cookie(COOKIE)
    return answer


async def api_products(_request):
    return web.json_response([{"id": 0, "title": "The Comedy of Errors"}])


def api(get, missing):
    async def handle(request):
        answer, status = await get(request)
        return web.json_response(answer if answer is not None else {"error": missing},
                                 status=status)
    return handle


# the services behind it


async def show_details(request):
    return web.json_response({"id": int(request.match_info["id"]), **BOOK})


async def show_reviews(request):
    stars, error = {}, None
    if VERSION in STARS:
        url = f"{address('ratings')}/ratings/{request.match_info['id']}"
        answer, _ = await ask(request, url, 10.0 if VERSION == "v2" else 2.5)
        stars = (answer or {}).get("ratings", {})
        error = None if answer else {"error": "Ratings service is currently unavailable"}
    reviews = []
    for name, words in REVIEWS:
        review = {"reviewer": name, "text": words}
        if error or name in stars:
            review["rating"] = error or {"stars": stars[name], "color": STARS[VERSION]}
        reviews.append(review)
    return web.json_response({"id": request.match_info["id"], "podname": pod_name(),
                              "clustername": "null", "reviews": reviews})


async def read_storage():
    url = urllib.parse.urlsplit(os.environ.get("MONGO_DB_URL", "mongodb://mongodb:27017/test"))
    reader, writer = await asyncio.open_connection(url.hostname, url.port or 27017)
    lines = (await reader.read()).decode().splitlines()
    writer.close()
    return {name: int(stars) for name, stars in (line.split() for line in lines)}


async def show_ratings(request):
    stars = ratings
    if VERSION == "v2":
        try:
            stars = await asyncio.wait_for(read_storage(), 5)
            if not stars:
                raise ValueError("the connection ended without an answer")
        except (OSError, ValueError, asyncio.TimeoutError) as error:
            log(f"storage: {error or 'timeout'}")
            return web.json_response({"error": "could not connect to ratings database"}, status=500)
    return web.json_response({"id": int(request.match_info["id"]), "ratings": stars})


async def set_ratings(request):
    try:
        given = await request.json()
        ratings.update((str(name), max(0, min(5, int(n)))) for name, n in given.items())
    except (ValueError, AttributeError, TypeError):
        return web.json_response({"error": "please provide valid ratings JSON"}, status=400)
    return web.json_response({"id": int(request.match_info["id"]), "ratings": ratings})


async def storage():
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    stars = [("Reviewer1", os.environ.get("STARS_1", "5")), ("Reviewer2", os.environ.get("STARS_2", "4"))]

    async def serve(_reader, writer):
        writer.write("".join(f"{name} {n}\n" for name, n in stars).encode())
        await writer.drain()
        writer.close()
    server = await asyncio.start_server(serve, None, int(os.environ.get("PORT", "27017")))
    await stop.wait()
    server.close()


def main():
    name = sys.argv[1] if len(sys.argv) == 2 else ""
    if name == "storage":
        asyncio.run(storage())
    elif name == "productpage":
        run(web.get("/", index), web.get("/productpage", product_page), web.post("/login", login),
            web.get("/logout", logout), web.get("/api/v1/products", api_products),
            web.get("/api/v1/products/0", api(
                get_details, "Sorry, product details are currently unavailable for this book.")),
            web.get("/api/v1/products/0/reviews", api(
                get_reviews, "Sorry, product reviews are currently unavailable for this book.")),
            port=9080)
    elif name == "details":
        run(web.get(r"/details/{id:\d+}", show_details), port=9080)
    elif name == "reviews":
        run(web.get(r"/reviews/{id:\d+}", show_reviews), port=9080)
    elif name == "ratings":
        run(web.get(r"/ratings/{id:\d+}", show_ratings), web.post(r"/ratings/{id:\d+}", set_ratings),
            port=9080)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
