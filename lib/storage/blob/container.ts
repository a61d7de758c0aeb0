/** A `ContainerClient` of @azure/storage-blob, as far as a storage uses it. */
export interface BlobContainer {
  /** Its name, for errors. */
  readonly containerName: string
  /** The client of one blob. */
  getBlockBlobClient(name: string): BlobClient
  /** Asks for the container itself. */
  getProperties(options: BlobCall): Promise<{
    /** When the server answered. */
    readonly date?: Date
  }>
  /** All blobs whose names begin with a prefix, page by page. */
  listBlobsFlat(options: BlobCall & { readonly includeMetadata: true, readonly prefix: string }): {
    /** Resolves to one page after the other. */
    byPage(settings: {
      /** Where the page before has ended. */
      readonly continuationToken?: string
    }): AsyncIterator<BlobPage>
  }
}

/** Some of the blobs of a container. */
export interface BlobPage {
  /** What is on it. */
  readonly segment: {
    /** The blobs, in the order of their names. */
    readonly blobItems: ReadonlyArray<{
      /** With its prefix. */
      readonly name: string
      /** As of `download`. */
      readonly metadata?: Record<string, string>
      /** Its version, without quotes. */
      readonly properties: { readonly etag: string }
    }>
  }
  /** Leads to the next page, if there is one. */
  readonly continuationToken?: string
}

/** The options that every call takes. */
export interface BlobCall {
  /** Ends the request. */
  readonly abortSignal?: AbortSignal
}

/** What the blob has to be for a call to be done. */
export interface BlobConditions {
  /** One of these, or none. */
  readonly conditions: {
    /** It has this ETag. */
    readonly ifMatch?: string
    /** With `*`: there is none. */
    readonly ifNoneMatch?: string
  }
}

/** A `BlockBlobClient` of @azure/storage-blob, as far as a storage uses it. */
export interface BlobClient {
  /** Its content, and what stands beside it. */
  download(offset: number, count: undefined, options: BlobCall): Promise<{
    /** Its content, in Node. */
    readonly readableStreamBody?: NodeJS.ReadableStream
    /** Which version of it that is. */
    readonly etag?: string
    /** When the server answered. */
    readonly date?: Date
    /** What was put beside it, by names in lower case. */
    readonly metadata?: Record<string, string>
  }>
  /** Replaces it. */
  upload(body: Buffer, length: number, options: BlobCall & BlobConditions & {
    /** What is put beside it. */
    readonly metadata: Record<string, string>
    /** What readers of the blob are told that it is. */
    readonly blobHTTPHeaders: { readonly blobContentType: string }
  }): Promise<{
    /** Of the new version. */
    readonly etag?: string
  }>
  /** Removes it, and its snapshots. */
  delete(options: BlobCall & BlobConditions & { readonly deleteSnapshots: 'include' }): Promise<unknown>
}
