/** The four files of an IDX image dataset, by what they hold. */
export const IDX_FILES = {
  trainImages: 'train-images-idx3-ubyte',
  trainLabels: 'train-labels-idx1-ubyte',
  testImages: 't10k-images-idx3-ubyte',
  testLabels: 't10k-labels-idx1-ubyte',
} as const;
export type IdxFile = keyof typeof IDX_FILES;

/**
 * Fashion-MNIST (Xiao, Rasul & Vollgraf 2017, https://github.com/zalandoresearch/fashion-mnist).
 * The SHA-256 is of the uncompressed files: the .gz files differ between sources.
 */
export const FASHION_MNIST = {
  name: 'fashion-mnist',
  sha256: {
    trainImages: 'c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888',
    trainLabels: 'bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9',
    testImages: '5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b',
    testLabels: '0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34',
  },
  bytes: { trainImages: 47_040_016, trainLabels: 60_008, testImages: 7_840_016, testLabels: 10_008 },
  classNames: [
    'T-shirt/top',
    'Trouser',
    'Pullover',
    'Dress',
    'Coat',
    'Sandal',
    'Shirt',
    'Sneaker',
    'Bag',
    'Ankle boot',
  ],
  /** Where Debian's package `dataset-fashion-mnist` puts the (gzipped) files. */
  debianFolder: '/usr/share/datasets/fashion-mnist',
  debianPackage: 'dataset-fashion-mnist',
  /** An S3 website: plain http only; what comes is checked by SHA-256. */
  officialUrl: 'http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/',
} as const satisfies {
  name: string;
  sha256: Record<IdxFile, string>;
  bytes: Record<IdxFile, number>;
  classNames: readonly string[];
  debianFolder: string;
  debianPackage: string;
  officialUrl: string;
};
