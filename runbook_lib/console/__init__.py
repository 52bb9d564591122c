"""Endpoints and pages: server-rendered, nothing from outside, made to be read at night on a phone."""
