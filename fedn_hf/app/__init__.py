"""The review app: look at what was found in a video, correct it by hand, and take it along.

`review` holds what a review is and knows nothing of a page; `sessions` whose video lies where, and who looks into it;
`page` what stands where. Gradio is imported by `page` alone (`pip install 'fedn_hf[app]'`).
"""
