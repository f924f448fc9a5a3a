"""`millstream demo`: a sample goes in, the computed CSV comes out."""


def command() -> None:
    """Show the whole chain with a sample, in a temporary folder, and check what comes back.

    Ends with 0 only if the CSV fetched over HTTP is right.

    Example:  millstream demo
    """
    from millstream import options
    from millstream.demo import demo

    demo(options.settings(beside_up=False, calculations=False))
