"""The way from containers to the emulator: a forwarder on the docker bridge's gateway address.

The emulator listens on loopback only. RIG_BRIDGE (the gateway of docker's own bridge, often 172.17.0.1) opens the same port there, which
other machines cannot reach.
"""
import asyncio
import os
import threading


async def pipe(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def serve(bridge, port):
    async def client(reader, writer):
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(pipe(reader, up_writer), pipe(up_reader, writer))
    async with await asyncio.start_server(client, bridge, port) as server:
        await server.serve_forever()


def start(port):
    if bridge := os.environ.get("RIG_BRIDGE"):
        threading.Thread(target=lambda: asyncio.run(serve(bridge, port)), daemon=True).start()
