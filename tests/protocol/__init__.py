"""What any legacy volume plugin has to do, tried over a real unix socket.

Also for other people's plugins: ``pytest tests/protocol --plugin-socket /run/docker/plugins/NAME.sock
--plugin-opt key=value``. It makes volumes called ``lhtest-…`` and removes them again.
"""
