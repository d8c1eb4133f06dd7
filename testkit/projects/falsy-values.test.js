'use strict'

// Not part of process-warning: added when this repository was made.
// It fails on the published version.

const assert = require('node:assert')
const { test } = require('node:test')
const { createWarning, spyWarning } = require('..')

test('values that are falsy are interpolated like any other', () => {
  const warning = createWarning({
    name: 'TestWarning',
    code: 'CODE',
    message: '%s of %s files, %s left'
  })

  assert.deepStrictEqual(warning.format(3, 7, 4), '3 of 7 files, 4 left')
  assert.deepStrictEqual(warning.format(0, 7, 7), '0 of 7 files, 7 left')
  assert.deepStrictEqual(warning.format(7, 7, 0), '7 of 7 files, 0 left')
  assert.deepStrictEqual(warning.format(false, '', null), 'false of  files, null left')
})

test('a spy sees falsy values', () => {
  const warning = createWarning({
    name: 'TestWarning',
    code: 'CODE',
    message: '%s retries',
    unlimited: true
  })
  const spy = spyWarning(warning)

  warning(0)

  assert.deepStrictEqual(spy.calls[0].arguments, [0])
  spy.restore()
})
