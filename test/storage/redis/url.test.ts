import t from 'tap'
import { parseRedisUrl } from '../../../lib/storage/redis/url.js'

t.test('a URL names a server', async (t) => {
  t.strictSame(parseRedisUrl('redis://localhost'), { tls: false, username: '', password: '', nodes: [{ host: 'localhost', port: 6379 }] })
  t.strictSame(parseRedisUrl('rediss://bot:p%40ss,word@redis.example:6380/2?family=6'), {
    tls: true, username: 'bot', password: 'p@ss,word', nodes: [{ host: 'redis.example', port: 6380 }]
  })
  t.match(parseRedisUrl('redis://host?db=2&username=bot&password=p%40ss'), { nodes: [{ host: 'host', port: 6379 }] })
  t.match(parseRedisUrl('redis://[::1]:7000'), { nodes: [{ host: '::1', port: 7000 }] })
})

t.test('a URL names some nodes of a Cluster', async (t) => {
  t.strictSame(parseRedisUrl('rediss://:secret@a:7000,b,[::1]:7002'), {
    tls: true,
    username: '',
    password: 'secret',
    nodes: [{ host: 'a', port: 7000 }, { host: 'b', port: 6379 }, { host: '::1', port: 7002 }]
  })
})

t.test('everything else names nothing', async (t) => {
  for (const url of ['redis:localhost', 'http://localhost', 'localhost:6379', 'redis://[', 'redis://a:1,b:x', 'redis://a,', 'redis://a:1,b:2/1', 'redis://a/abc', 'redis://a/-1', 'redis://a:1/2/3', 'redis://user:12#3@host', 'redis://user:50%@host', 'redis://us%er:50@host',
    'redis://host?tls=1', 'redis://host?port=1', 'redis://?host=host', 'redis://host?db=one', 'redis://host?family=5', 'redis://host?password', 'redis://bot:1?2@host', 'redis://host?constructor=1', '']) {
    t.equal(parseRedisUrl(url), undefined, url)
  }
})
