"""Published weights of promptable models: catalogue, folder, download, verification."""
