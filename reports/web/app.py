"""The script that Streamlit runs, once for every click."""

from reports.web.frame import main

main()
