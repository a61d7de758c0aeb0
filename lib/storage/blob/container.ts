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
    byPage(settings: {
      /** Where the page before has ended. */
      readonly continuationToken?: string
    }): AsyncIterator<BlobPage>
  }
}

/** Some of the blobs of a container. */
export interface BlobPage {
  readonly segment: {
    readonly blobItems: ReadonlyArray<{
      readonly name: string
      readonly metadata?: Record<string, string>
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
    readonly readableStreamBody?: NodeJS.ReadableStream
    readonly etag?: string
    readonly date?: Date
    readonly metadata?: Record<string, string>
  }>
  /** Replaces it. */
  upload(body: Buffer, length: number, options: BlobCall & BlobConditions & {
    readonly metadata: Record<string, string>
    readonly blobHTTPHeaders: { readonly blobContentType: string }
  }): Promise<{ readonly etag?: string }>
  /** Removes it. */
  delete(options: BlobCall & BlobConditions & { readonly deleteSnapshots: 'include' }): Promise<unknown>
}
