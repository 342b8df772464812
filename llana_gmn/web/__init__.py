"""The web page: pick or upload a NeRF, see it turn, ask about it.

`gallery` and `uploads` know NeRFs, `state` what a visitor did and what all visitors share, `events` and `page` are the only ones
that know Gradio. Nothing is fetched from other hosts and nothing is sent to any.
"""
