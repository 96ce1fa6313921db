"""The pages in a real browser."""

from browsing import keep_picture, serious_faults


def test_first_page_without_token_in_its_address(open_page, viewer):
    page = open_page("/")
    assert page.url == viewer.address
    assert page.get_by_text("TS_02").count()
    assert not serious_faults(page)
    keep_picture(page, "viewer-index")
